"""The right to dial: what was acknowledged is there, what was refused is not, and each thing happened at most once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from tests.chaos.evidence import Asked, Evidence, Row
from tests.chaos.history import NEVER_NS, Operation
from tests.chaos.world import budget_account, max_attempts

_RETRIED = {"busy", "no-answer", "canceled", "notPlaced"}
_NOT_FINAL = {"notPlaced", "unresolved"}
# Refusals of begin_dial that take the grant back.
_RELEASING = {"Expired", "Canceled", "Suspended", "BudgetNotFound", "WindowClosed", "Stopped", "NoConsent", "DoNotCall"}


def check_protocol(evidence: Evidence) -> Iterator[str]:
    """What is wrong with the attempts, a line each."""
    for attempt, asked in evidence.asked.items():
        row = evidence.attempts.get(attempt)
        problems = _absent(asked) if row is None else _present(evidence, row, asked)
        yield from (f"attempt {attempt}: {problem}" for problem in problems)
    yield from (f"attempt {attempt}: nobody asked for it" for attempt in evidence.attempts.keys() - evidence.asked)
    yield from _numbers(evidence)
    yield from _people(evidence)


def _hold_answer(operation: Operation, place: int) -> str | None:
    return operation.value[place][1] if operation.outcome == "ok" else None


def _absent(asked: Asked) -> Iterator[str]:
    if any(_hold_answer(*held) == "Held" for held in asked.holds):
        yield "it was held, and there is none"
    yield from (f"{o.key} was told {o.value} about an attempt that is not there" for o in asked.all() if _effective(o))


def _effective(o: Operation) -> bool:
    return (
        (o.name == "begin" and o.outcome == "ok" and o.value[0] == "go")
        or o.told("placed", "same", "settled", "revoked")
        or (o.name in {"ended", "answered"} and o.told(True))
    )


def _present(evidence: Evidence, row: Row, asked: Asked) -> Iterator[str]:
    yield from _held(evidence, row, asked)
    yield from _begun(row, asked)
    yield from _sids(row, asked)
    yield from _ends(row, asked)
    yield from _settled(evidence, row, asked)
    yield from _revoked(row, asked)
    yield from _canceled(row, asked)
    yield from _pods(row, asked)


def _held(evidence: Evidence, row: Row, asked: Asked) -> Iterator[str]:
    """One of those who asked for it got it, with his terms, in his accounts."""
    perhaps = [(o, place) for o, place in asked.holds if o.outcome == "unknown" or _hold_answer(o, place) == "Held"]
    if not perhaps:
        yield "everybody was refused, and it is there"
        return
    accounts = {evidence.names[e["account_id"]] for e in evidence.entries_of[row["id"]] if e["kind"] == "hold"}
    terms = [
        item for o, place in perhaps if (item := o.args["items"][place])["number"] == row["number"]
        and item["amount"] == row["hold_micros"] and item["run"] == row["run"] and o.args["epoch"] == row["epoch"]
        and {budget_account(index) for index in item["budgets"]} == accounts - {"sales/Campaign/spring/total"}
    ]  # fmt: skip
    if not terms:
        yield "it is not as anybody asked for it"
    over = [o for o in asked.by_name["revoke"] + asked.by_name["settle"] if o.told("revoked", "settled")]
    over += [o for o in asked.by_name["begin"] if o.outcome == "ok" and o.value[0] == "go"]
    for operation, place in asked.holds:
        if _hold_answer(operation, place) == "Held" and any(o.answered_ns < operation.invoked_ns for o in over):
            yield f"{operation.key} was told Held when it no longer was granted"


def _begun(row: Row, asked: Asked) -> Iterator[str]:
    goes = [o for o in asked.by_name["begin"] if o.outcome == "ok" and o.value[0] == "go"]
    if {o.args["nonce"] for o in goes} - {row["nonce"]}:
        yield "a go was given to another nonce than the one that is stored"
    if row["nonce"] is not None:
        if not any(o.args["nonce"] == row["nonce"] and _may_go(o) for o in asked.by_name["begin"]):
            yield "it was begun by a nonce that was refused"
        if row["begun_at"] >= row["expires_at"]:
            yield "it was begun after it had expired"
    if goes and row["state"] in {"granted", "revoked"}:
        yield f"a go was given, and it is {row['state']}"
    ends = [o for o in asked.all() if o.name in {"placed", "ended"} and o.told("placed", True)]
    for o in goes:
        if any(end.answered_ns < o.invoked_ns for end in ends):
            yield f"{o.key} got a go after it had been placed"
    yield from _same_answer(asked, goes)
    for o in asked.by_name["begin"]:
        if o.outcome == "ok" and o.value[0] == "refused" and o.value[1] in _RELEASING and row["state"] != "revoked":
            yield f"{o.key} was refused ({o.value[1]}), and the money is still held"


def _may_go(o: Operation) -> bool:
    return o.outcome == "unknown" or (o.outcome == "ok" and o.value[0] == "go")


def _same_answer(asked: Asked, goes: list[Operation]) -> Iterator[str]:
    """Asked again with its nonce and its pod before anybody said more: the same answer."""
    if not goes:
        return
    first = min(goes, key=lambda o: o.answered_ns)
    more = min((o.invoked_ns for n in ("placed", "ended", "settle") for o in asked.by_name[n]), default=NEVER_NS)
    for o in asked.by_name["begin"]:
        again = o.args == first.args and o.invoked_ns > first.answered_ns and o.answered_ns < more
        if again and o.outcome == "ok" and o.value[0] != "go":
            yield f"{o.key} asked with the nonce that has the go, and was told {o.value}"


def _sids(row: Row, asked: Asked) -> Iterator[str]:
    sid = row["call_sid"]
    for o in asked.by_name["placed"]:
        mine = o.args["sid"] == sid
        if o.told("placed", "same") and not mine:
            yield f"{o.key} was told {o.value}, and another call is stored"
        if o.told("second_sid") and mine:
            yield f"{o.key} was told that another call is stored, and it is that one"
    if len([o for o in asked.by_name["placed"] if o.told("placed")]) > 1:
        yield "two calls were stored"
    if sid is not None and not any(
        o.args["sid"] == sid and o.perhaps("placed", "same", True)
        for n in ("placed", "ended")
        for o in asked.by_name[n]
    ):
        yield "a call is stored that nobody was told is"
    at = row["answered_at"]
    for o in asked.by_name["answered"]:
        mine = at == datetime.fromtimestamp(o.args["at"], at.tzinfo) if at is not None else False
        if (o.told(True) and not mine) or (o.told(False) and mine):
            yield f"{o.key} was told {o.value}, and what is stored says otherwise"


def _ends(row: Row, asked: Asked) -> Iterator[str]:
    """The final word ends it once; only what was not final is replaced, once."""
    told = [o for o in asked.by_name["ended"] if o.told(True)]
    final = [o for o in told if o.args["status"] not in _NOT_FINAL]
    if len(final) > 1 or len(told) - len(final) > 1:
        yield "it was ended twice"
    stored = (row["evidence"] or {}).get("error_code")
    source = next((o for o in asked.by_name["ended"] if o.key == stored), None)
    if stored is not None and (source is None or not source.perhaps(True)):
        yield "it ended by a word that was refused"
    if final and stored != final[0].key:
        yield "its final word is another one than the one that was accepted"
    if told and not final and stored != told[0].key and (source is None or source.args["status"] in _NOT_FINAL):
        yield "its word is another one than the one that was accepted"
    if source is not None and source.args["sid"] not in {None, row["call_sid"]}:
        yield "it ended by the word about another call"
    if row["state"] in {"ended", "settled"} and row["end_status"] is None:
        yield f"it is {row['state']}, and nobody said how it ended"
    if stored is not None and row["state"] not in {"ended", "settled"}:
        yield f"it ended, and is {row['state']}"


def _settled(evidence: Evidence, row: Row, asked: Asked) -> Iterator[str]:
    """At most one settlement and one late posting, each by one operation, and both as that one said."""
    told = [o for o in asked.by_name["settle"] if o.told("settled")]
    if told and row["state"] != "settled":
        yield f"it was settled, and is {row['state']}"
    by_key = {o.key: o for o in asked.by_name["settle"]}
    posted: dict[str, int] = {e["kind"]: e["spent_micros"] for e in evidence.entries_of[row["id"]]}
    expected = sorted(posted[kind] for kind in ("settle", "late") if kind in posted)
    costs = evidence.costs[row["id"]]
    if sorted(costs.values()) != expected:
        yield "what was posted is not what its cost lines say"
    for meter, amount in costs.items():
        o = by_key.get(meter)
        if o is None or not o.perhaps("settled"):
            yield "it was settled by somebody who was refused"
        elif o.args["amount"] != amount:
            yield f"{o.key} settled another amount"
    if row["state"] != "settled" or row["reason"] == "LateEvidence":
        return
    if row["end_status"] == "completed" and not any(
        by_key[m].args["seen"] == "completed" for m in costs if m in by_key
    ):
        yield "it was completed, and nothing was posted for it"


def _revoked(row: Row, asked: Asked) -> Iterator[str]:
    if row["state"] != "revoked":
        yield from (
            f"{o.key} was told revoked, and it is {row['state']}" for o in asked.by_name["revoke"] if o.told("revoked")
        )
        return
    by_revoke = any(o.key == row["reason"] and o.perhaps("revoked") for o in asked.by_name["revoke"])
    by_begin = row["reason"] in _RELEASING and any(
        o.outcome == "unknown" or (o.outcome == "ok" and o.value == ["refused", row["reason"]])
        for o in asked.by_name["begin"]
    )
    if not (by_revoke or by_begin):
        yield "it was revoked by somebody who was refused"


def _canceled(row: Row, asked: Asked) -> Iterator[str]:
    told = [o for o in asked.by_name["cancel"] if o.outcome == "ok"]
    held = [o.answered_ns for o, place in asked.holds if _hold_answer(o, place) == "Held"]
    told = [o for o in told if held and o.invoked_ns > min(held)]
    if not told:
        return
    if row["cancel_requested_at"] is None:
        yield "its cancellation was lost"
    before = min(o.answered_ns for o in told)
    mine = [o for o in asked.by_name["begin"] if o.args["nonce"] == row["nonce"]]
    if row["nonce"] is not None and all(o.invoked_ns > before for o in mine):
        yield "it was begun after it had been canceled"


def _pods(row: Row, asked: Asked) -> Iterator[str]:
    if row["owner_pod_uid"] not in {None, row["granted_pod_uid"]}:
        yield "another pod began it than the one that it was granted to"
    for name in ("placed", "answered", "ended"):
        for o in asked.by_name[name]:
            if o.args.get("pod_uid") == "another" and o.told(True, "placed", "same"):
                yield f"{o.key} was taken from a pod that does not own it"


def _numbers(evidence: Evidence) -> Iterator[str]:
    """At most one open attempt a number: no two were surely open at one moment."""
    surely: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
    open_now: defaultdict[str, int] = defaultdict(int)
    for row in evidence.attempts.values():
        asked = evidence.asked[row["id"]]
        open_now[row["number_hash"]] += row["state"] in {"granted", "dialing", "placed"}
        held = min((o.answered_ns for o, place in asked.holds if _hold_answer(o, place) == "Held"), default=NEVER_NS)
        closed = [o.invoked_ns for o in asked.all() if _may_close(o)]
        if held < min(closed, default=NEVER_NS):
            surely[row["number_hash"]].append((held, min(closed, default=NEVER_NS), row["id"]))
    yield from ("a number has two open attempts" for count in open_now.values() if count > 1)
    for spans in surely.values():
        spans.sort()
        for (_, end, one), (start, _, other) in pairwise(spans):
            if start < end:
                yield f"attempts {one} and {other} of one number were open together"


def _may_close(o: Operation) -> bool:
    if o.name == "begin":
        return o.outcome == "unknown" or (o.outcome == "ok" and o.value[0] == "refused")
    return (o.name == "revoke" and o.perhaps("revoked")) or (o.name == "ended" and o.perhaps(True))


def _people(evidence: Evidence) -> Iterator[str]:
    """Nobody is called again in a run unless nobody was reached, nor more often than the campaign allows."""
    calls: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in evidence.attempts.values():
        if row["state"] != "revoked":
            calls[row["person"], row["run"]].append(row)
    for (person, run), rows in calls.items():
        rows.sort(key=lambda row: row["number"])
        # One that is late found to have been placed counts from then on only.
        counted = [row for row in rows[:-1] if row["counts"] and not _said(evidence, row) & _NOT_FINAL]
        hold, place = evidence.asked[rows[0]["id"]].holds[0]
        if len(counted) >= max_attempts(hold.args["items"][place]["person"]):
            yield f"person {person} was called more often in run {run} than the campaign allows"
        for row in rows[:-1]:
            if not _said(evidence, row) & _RETRIED or row["state"] != "settled":
                yield f"person {person} was called again in run {run} after {row['end_status']}"


def _said(evidence: Evidence, row: Row) -> set[str]:
    """How it may have been said to have ended."""
    return {o.args["status"] for o in evidence.asked[row["id"]].by_name["ended"] if o.perhaps(True)}
