"""The money: every account is its entries, no hold was above its limit, and every attempt's money moves as a whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Row
from tests.chaos.history import Operation
from tests.chaos.world import CAMPAIGN_ACCOUNT, FIRST_LIMIT_MICROS, budget_account

# The entries that an attempt has in each of its accounts, by its state.
_KINDS = {
    "granted": ("hold",), "dialing": ("hold",), "placed": ("hold",), "ended": ("hold",),
    "revoked": ("hold", "release"), "settled": ("hold", "settle"),
}  # fmt: skip


def check_money(evidence: Evidence) -> Iterator[str]:
    """What is wrong with the money, a line each."""
    yield from _accounts(evidence)
    for attempt in evidence.attempts.values():
        yield from _entries_of(evidence, attempt)
    yield from _limits(evidence)


def _accounts(evidence: Evidence) -> Iterator[str]:
    """Replays the entries in the order in which they were posted."""
    held: Counter[int] = Counter()
    spent: Counter[int] = Counter()
    overrun: dict[int, int] = {}
    holds: dict[tuple[str, int], int] = {}
    for entry in evidence.entries:
        account = entry["account_id"]
        name, limit = evidence.names[account], entry["limit_micros"]
        held[account] += entry["held_micros"]
        spent[account] += entry["spent_micros"]
        if held[account] < 0:
            yield f"{name}: held is below 0 after entry {entry['id']}"
        if entry["kind"] == "hold":
            holds[entry["attempt_id"], account] = entry["held_micros"]
            if limit is not None and held[account] + spent[account] > limit:
                yield f"{name}: entry {entry['id']} holds above the limit then in force"
            if limit is not None and overrun.get(account) == limit:
                yield f"{name}: entry {entry['id']} holds after an overrun that nobody has looked at"
        elif limit is not None and entry["spent_micros"] > holds.get((entry["attempt_id"], account), 0):
            overrun[account] = limit
    for account, name in evidence.names.items():
        row = evidence.accounts[name]
        if (row["held_micros"], row["spent_micros"]) != (held[account], spent[account]):
            yield f"{name}: the balances are not the sums of the entries"
        if account in overrun and overrun[account] == row["limit_micros"] and not row["overrun"]:
            yield f"{name}: it was overrun, and does not say so"


def _entries_of(evidence: Evidence, attempt: Row) -> Iterator[str]:
    """An attempt's entries: the same kinds in the same accounts, what was held returned once and wholly."""
    by_account: defaultdict[int, list[Row]] = defaultdict(list)
    for entry in evidence.entries_of[attempt["id"]]:
        by_account[entry["account_id"]].append(entry)
    if not by_account:
        yield f"attempt {attempt['id']}: no money is held for it"
    sums = set()
    for account, entries in by_account.items():
        where = f"attempt {attempt['id']} in {evidence.names[account]}"
        kinds = tuple(entry["kind"] for entry in entries)
        late = kinds[-1] == "late" and attempt["state"] == "settled"
        if kinds[: -1 if late else None] != _KINDS[attempt["state"]]:
            yield f"{where}: {attempt['state']} with the entries {', '.join(kinds)}"
        if entries[0]["held_micros"] != attempt["hold_micros"]:
            yield f"{where}: another amount is held than was granted"
        left = sum(entry["held_micros"] for entry in entries)
        if left != (0 if attempt["state"] in {"revoked", "settled"} else attempt["hold_micros"]):
            yield f"{where}: {left} is left of the hold in state {attempt['state']}"
        sums.add(tuple(entry["spent_micros"] for entry in entries))
        if attempt["state"] == "settled" and entries[-1]["spent_micros"] != attempt["actual_micros"]:
            yield f"{where}: the actual cost is not what was posted last"
    if len(sums) > 1:
        yield f"attempt {attempt['id']}: its accounts were charged differently"


def _limits(evidence: Evidence) -> Iterator[str]:
    """Limits are only those that were asked for, and never go back to an older generation."""
    for key, account in evidence.accounts.items():
        if key == CAMPAIGN_ACCOUNT or key not in _BUDGETS:
            continue
        asked = [o for o in evidence.operations if o.name == "set_limit" and o.args["account"] == key]
        first = FIRST_LIMIT_MICROS + _BUDGETS.index(key)
        generations = {first: 0} | {o.args["limit"]: o.args["generation"] for o in asked if o.perhaps("Applied")}
        applied = [o.args["generation"] for o in asked if o.told("Applied")]
        if account["limit_generation"] < max(applied, default=0):
            yield f"{key}: an older limit is in force than one that was applied"
        if account["limit_micros"] not in generations:
            yield f"{key}: nobody asked for the limit in force"
        yield from _limits_seen(evidence, key, generations)
        yield from _stale_limits(key, asked)


_BUDGETS = [budget_account(index) for index in range(64)]


def _limits_seen(evidence: Evidence, key: str, generations: dict[int, int]) -> Iterator[str]:
    newest, account = 0, evidence.accounts[key]["id"]
    for entry in evidence.entries:
        if entry["account_id"] != account:
            continue
        generation = generations.get(entry["limit_micros"])
        if generation is None:
            yield f"{key}: entry {entry['id']} has a limit that nobody asked for"
        elif generation < newest:
            yield f"{key}: entry {entry['id']} has an older limit than one before it"
        else:
            newest = generation


def _stale_limits(key: str, asked: list[Operation]) -> Iterator[str]:
    """A limit that was applied after a newer one had been: of one object only a newer generation counts."""
    newest_at: list[tuple[int, int]] = sorted((o.answered_ns, o.args["generation"]) for o in asked if o.told("Applied"))
    for operation in asked:
        if operation.told("Applied") and any(
            at < operation.invoked_ns and generation > operation.args["generation"] for at, generation in newest_at
        ):
            yield f"{key}: {operation.key} applied an older generation than the one in force"
