"""Three years of calls in a scratch database: as many as one likes, spread over namespaces, campaigns and people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from tests.integration.books import SUBJECTS

from callfleet_core.contacts import ContactIn
from callfleet_core.subjects import SAID

NAMESPACES, CAMPAIGNS_EACH = 20, 10
YEARS = 3
TURNS_A_CALL = 2
CHUNK = 250_000
ACCOUNT_SID = "AC" + "0" * 32


@dataclass(frozen=True)
class HistoryLoad:
    """What is stored: `calls` of `people`, begun evenly between `first` and `last`."""

    calls: int
    people: int
    first: datetime
    last: datetime
    ids: list[UUID] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, calls: int) -> HistoryLoad:
        """A person is called 25 times in three years."""
        last = datetime.now(UTC).replace(microsecond=0)
        return cls(calls, max(1, calls // 25), last - timedelta(days=365 * YEARS), last)

    def namespace(self, person: int) -> str:
        """Where a person belongs."""
        return f"team-{person % NAMESPACES}"

    def campaign(self, person: int) -> str:
        """By which campaign a person is called."""
        return f"campaign-{person // NAMESPACES % CAMPAIGNS_EACH}"

    def fill(self, url: str, say: Callable[[str], None]) -> None:
        """Stores everything; foreign keys are not checked meanwhile, and the tables are analysed afterwards."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("SELECT ensure_call_partitions(%s, %s)", (self.first.year, self.last.year + 1))
            connection.execute(_FIXED, {"sid": ACCOUNT_SID})
            self._people(connection)
            say(f"{self.people:,} people")
            for start in range(0, self.calls, CHUNK):
                for statement in (_ATTEMPTS, _CALLS, _SAYINGS, _LEADS):
                    connection.execute(statement, self._parameters(start))
                say(f"{min(start + CHUNK, self.calls):,} calls")
            connection.execute("SET session_replication_role = origin")
            for table in (
                "contacts",
                "consents",
                "campaign_contacts",
                "dial_attempts",
                "calls",
                "conversations",
                "lead_scores",
            ):
                connection.execute(f"VACUUM (ANALYZE) {table}")
            say("analysed")

    def seal_sayings(self, url: str, calls: list[int]) -> None:
        """Gives the sayings of some calls words that their person's key opens; the others' are noise."""
        with psycopg.connect(url, autocommit=True) as connection:
            for call in calls:
                person = call % self.people
                row = connection.execute(
                    "SELECT id, namespace, key_version, wrapped_key FROM contacts WHERE id = %s", (self.ids[person],)
                ).fetchone()
                assert row is not None
                key = SUBJECTS.key(dict(zip(("id", "namespace", "key_version", "wrapped_key"), row, strict=True)))
                connection.execute(
                    "UPDATE conversations SET content = %s WHERE call_id = md5('call' || %s)::uuid",
                    (key.encrypt(SAID, "Yes, I would like a condo."), call),
                )

    def person(self, call: int) -> UUID:
        """Whom a call was made to."""
        return self.ids[call % self.people]

    def _people(self, connection: psycopg.Connection) -> None:
        columns = "(id, namespace, number_hash, phone, name, dial_prefix, key_version, wrapped_key)"
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY contacts {columns} FROM STDIN") as copy:
                for person in self._sealed():
                    copy.write_row(person)
            connection.execute("CREATE TABLE bench_people (n integer PRIMARY KEY, id uuid)")
            with cursor.copy("COPY bench_people FROM STDIN") as copy:
                for index, identity in enumerate(self.ids):
                    copy.write_row((index, identity))
        connection.execute(_CONSENTS)
        connection.execute(_LISTED, {"namespaces": NAMESPACES, "campaigns": CAMPAIGNS_EACH})

    def _sealed(self) -> Iterator[tuple[object, ...]]:
        for person in range(self.people):
            sealed = SUBJECTS.seal(
                self.namespace(person), ContactIn(f"+1{2_000_000_000 + person}", f"P {person}", None)
            )
            self.ids.append(sealed.id)
            yield (
                sealed.id, sealed.namespace, sealed.number_hash, sealed.phone, sealed.name, sealed.dial_prefix,
                sealed.key_version, sealed.wrapped_key,
            )  # fmt: skip

    def _parameters(self, start: int) -> dict[str, object]:
        return {
            "start": start,
            "end": min(start + CHUNK, self.calls) - 1,
            "people": self.people,
            "namespaces": NAMESPACES,
            "campaigns": CAMPAIGNS_EACH,
            "first": self.first,
            "step": (self.last - self.first) / self.calls,
            "turns": TURNS_A_CALL,
            "sid": ACCOUNT_SID,
        }


_FIXED = """
WITH script AS (INSERT INTO call_scripts SELECT sha256('{}'), '{}')
INSERT INTO carrier_accounts (account_sid, api_base_url, public_url, simulated)
VALUES (%(sid)s, 'http://127.0.0.1:9', 'http://127.0.0.1:8', true)
"""
_CONSENTS = """
INSERT INTO consents (contact_id, kind, source, origin, given_at)
SELECT id, 'express-written', 'web form', 'bench', now() - interval '4 years' FROM bench_people
"""
# The newest run of everybody: half of them are due.
_LISTED = """
INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position, state, disposition, finished_at)
SELECT 'team-' || n %% %(namespaces)s, 'campaign-' || n / %(namespaces)s %% %(campaigns)s, 'r24', id, n,
       CASE WHEN n / 200 %% 2 = 0 THEN 'Completed' END, CASE WHEN n / 200 %% 2 = 0 THEN 'answered' END,
       CASE WHEN n / 200 %% 2 = 0 THEN now() END FROM bench_people
"""
_SERIES = """
    FROM generate_series(%(start)s::bigint, %(end)s::bigint) i
    JOIN bench_people p ON p.n = i %% %(people)s
    CROSS JOIN LATERAL (SELECT %(first)s::timestamptz + i * %(step)s::interval AS at) t
"""
_ATTEMPTS = f"""
INSERT INTO dial_attempts (id, state, number, namespace, campaign, run_id, contact_id, session_name, session_uid,
    number_hash, account_sid, from_number, currency, hold_micros, time_limit_s, ring_timeout_s, max_queue_s, time_zone,
    script_digest, granted_pod_uid, owner_pod_uid, owner_generation, epoch, granted_at, expires_at, begun_at, placed_at,
    answered_at, ended_at, settled_at, call_sid, end_status, duration_s, actual_micros)
SELECT md5('call' || i)::uuid, 'settled', 1, 'team-' || p.n %% %(namespaces)s,
    'campaign-' || p.n / %(namespaces)s %% %(campaigns)s, 'r' || i / %(people)s, p.id,
    's-' || i / %(people)s || '-' || p.n, 'uid-' || i, md5('number' || p.n), %(sid)s, '+15550100001', 'USD', 36000,
    120, 20, 30, 'UTC', sha256('{{}}'), 'pod', 'pod', 1, 1, t.at - interval '2 s', t.at + interval '2 minutes', t.at,
    t.at, t.at + interval '5 s', t.at + interval '70 s', t.at + interval '75 s', 'CA' || md5('sid' || i), 'completed',
    65, 36000
{_SERIES}
"""  # constants of this module
_CALLS = f"""
INSERT INTO calls (id, contact_id, status, disposition, start_time, end_time, duration, cost, turns, created_at)
SELECT md5('call' || i)::uuid, p.id, 'completed', 'qualified', t.at + interval '5 s', t.at + interval '70 s', 65,
    0.0360, 8, t.at {_SERIES}
"""  # constants of this module
_SAYINGS = f"""
INSERT INTO conversations (call_id, seq, agent_type, message_type, content, "timestamp")
SELECT md5('call' || i)::uuid, turn, 'qualifier', CASE WHEN turn %% 2 = 0 THEN 'assistant' ELSE 'user' END,
    decode(md5('a' || i) || md5('b' || i), 'hex'), t.at + turn * interval '4 s'
{_SERIES} CROSS JOIN generate_series(0, %(turns)s - 1) turn
"""  # constants of this module
_LEADS = f"""
INSERT INTO lead_scores (contact_id, call_id, qualification_score, interest_level, timeline, created_at)
SELECT p.id, md5('call' || i)::uuid, 0.75, 'yes', 'soon', t.at {_SERIES} WHERE i %% 2 = 0
"""  # constants of this module
