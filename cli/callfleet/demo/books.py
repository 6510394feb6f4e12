"""Reads, as the schema's owner, what a view shows: names, balances and the conversations of the moment."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from callfleet.demo.scene import Books, Budget, Saying, Talk
from callfleet_core.contacts import session_name
from callfleet_core.subjects import SAID, Subjects

CONNECT_TIMEOUT_S = 5
MOST_NAMES = 2000
MOST_TALKS = 2
MOST_SAYINGS = 24

_NAMES = """
SELECT c.campaign, c.run_id, c.contact_id, k.id, k.namespace, k.name, k.key_version, k.wrapped_key
FROM campaign_contacts c JOIN contacts k ON k.id = c.contact_id
WHERE c.namespace = %(namespace)s AND k.name IS NOT NULL ORDER BY c.position LIMIT %(limit)s
"""
_BUDGETS = """
SELECT name, currency, limit_micros, held_micros, spent_micros FROM accounts
WHERE namespace = %(namespace)s AND kind = 'Budget' AND NOT closed AND limit_micros IS NOT NULL
ORDER BY name, time_window
"""
# The calls that are live, or else the last one: so that its end can be read before the next one rings.
_CALLS = """
SELECT a.id AS call, a.session_name, k.id, k.namespace, k.name, k.key_version, k.wrapped_key,
       a.state IN ('dialing', 'placed') AS on_the_line,
       EXTRACT(EPOCH FROM clock_timestamp() - a.answered_at)::float8 AS answered_s
FROM dial_attempts a JOIN contacts k ON k.id = a.contact_id
WHERE a.namespace = %(namespace)s AND a.begun_at IS NOT NULL
ORDER BY on_the_line DESC, a.begun_at DESC LIMIT %(limit)s
"""
_SAYINGS = """
SELECT message_type = 'assistant' AS by_agent, content FROM conversations
WHERE call_id = %(call)s ORDER BY seq DESC LIMIT %(limit)s
"""


def read_books(database_url: str, namespace: str, subjects: Subjects) -> Books:
    """The books of a namespace, as they are now. Raises psycopg.OperationalError."""
    with psycopg.connect(database_url, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        where = {"namespace": namespace}
        names = connection.execute(_NAMES, {**where, "limit": MOST_NAMES}).fetchall()
        budgets = connection.execute(_BUDGETS, where).fetchall()
        calls = connection.execute(_CALLS, {**where, "limit": MOST_TALKS}).fetchall()
        live = [call for call in calls if call["on_the_line"]] or calls[:1]
        talks = [_talk(connection, call, subjects) for call in live]
    people = {
        session_name(row["campaign"], row["run_id"], row["contact_id"]): subjects.open(row).name or "" for row in names
    }
    return Books(people, [Budget(**row) for row in budgets], talks)


def _talk(connection: psycopg.Connection[dict[str, Any]], call: dict[str, Any], subjects: Subjects) -> Talk:
    person = subjects.open(call)
    rows = connection.execute(_SAYINGS, {"call": call["call"], "limit": MOST_SAYINGS}).fetchall()
    sayings = [Saying(row["by_agent"], person.key.decrypt(SAID, bytes(row["content"]))) for row in reversed(rows)]
    return Talk(person.name or call["session_name"], call["on_the_line"], call["answered_s"], sayings)
