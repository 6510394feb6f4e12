"""What is judged: the clients' history and the final database, both by attempt and by account."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from tests.chaos.history import Operation, read_history

Row = dict[str, Any]

_ACCOUNTS = "SELECT id, key, limit_micros, limit_generation, held_micros, spent_micros, overrun FROM accounts"
_ENTRIES = "SELECT id, attempt_id::text AS attempt_id, account_id, kind, held_micros, spent_micros, limit_micros" \
    " FROM ledger_entries ORDER BY id"  # fmt: skip
_ATTEMPTS = """
SELECT id::text AS id, state, number, contact_id::text AS person, run_id::int AS run, hold_micros, nonce::text AS nonce,
    granted_pod_uid, owner_pod_uid, epoch, expires_at, begun_at, placed_at, answered_at, settled_at, call_sid, reason,
    end_status, evidence, counts, actual_micros, cancel_requested_at, number_hash
FROM dial_attempts
"""
_COSTS = "SELECT attempt_id::text AS attempt_id, meter, amount_micros FROM cost_lines"


@dataclass
class Asked:
    """The operations about one attempt, by name, in the order in which they were asked; a hold as (operation, item)."""

    holds: list[tuple[Operation, int]] = field(default_factory=list)
    by_name: defaultdict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))

    def all(self) -> list[Operation]:
        """Those that are not holds."""
        return [operation for operations in self.by_name.values() for operation in operations]


@dataclass
class Evidence:
    """History and database. `names`: accounts' keys by id."""

    operations: list[Operation]
    accounts: dict[str, Row]
    entries: list[Row]
    attempts: dict[str, Row]
    costs: defaultdict[str, dict[str, int]]
    asked: defaultdict[str, Asked]
    names: dict[int, str]
    entries_of: defaultdict[str, list[Row]]

    @property
    def count(self) -> int:
        """Operations; a batch counts by its items."""
        return sum(len(o.args["items"]) if o.name == "hold" else 1 for o in self.operations)


def collect(folder: Path, url: str) -> Evidence:
    """Reads it all, once every client has ended."""
    operations = read_history(folder)
    with psycopg.connect(url, row_factory=dict_row) as connection:
        accounts = {row["key"]: row for row in connection.execute(_ACCOUNTS)}
        entries = connection.execute(_ENTRIES).fetchall()
        attempts = {row["id"]: row for row in connection.execute(_ATTEMPTS)}
        costs: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for row in connection.execute(_COSTS):
            costs[row["attempt_id"]][row["meter"]] = row["amount_micros"]
    entries_of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in entries:
        entries_of[row["attempt_id"]].append(row)
    names = {row["id"]: key for key, row in accounts.items()}
    return Evidence(operations, accounts, entries, attempts, costs, _by_attempt(operations), names, entries_of)


def _by_attempt(operations: list[Operation]) -> defaultdict[str, Asked]:
    asked: defaultdict[str, Asked] = defaultdict(Asked)
    for operation in operations:
        if operation.name == "hold":
            for place, item in enumerate(operation.args["items"]):
                asked[item["id"]].holds.append((operation, place))
        elif "id" in operation.args:
            asked[operation.args["id"]].by_name[operation.name].append(operation)
    return asked
