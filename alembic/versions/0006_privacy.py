"""Personal data at rest: a key for each person. Needs CALLFLEET_ENCRYPTION_KEYS where anybody is stored already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from alembic import op
from sqlalchemy import text

from callfleet_core.crypto import DataKey, Keyring, WrappedKey
from callfleet_core.db.scripts import run_script
from callfleet_core.errors import SchemaError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PAGE = 2_000
# As they were when this revision was made; core's own constants may move on.
_PHONE, _NAME, _SAID, _RECORDING = "contacts.phone", "contacts.name", "conversations.content", "calls.recording_url"
_PREFIX = 6


def upgrade() -> None:
    """Encrypts what is there, page by page, in one transaction."""
    run_script("0006_privacy.sql")
    ring = _Ring()
    for row in _pages("SELECT id, namespace, plain_phone, plain_name FROM contacts", "id"):
        _seal_contact(ring, row)
    people = "SELECT {}, k.id AS person, k.namespace, k.key_version, k.wrapped_key FROM {} JOIN contacts k ON {}"
    for row in _pages(
        people.format(
            "t.id, t.plain_content", "conversations t JOIN calls c ON c.id = t.call_id", "k.id = c.contact_id"
        ),
        "t.id",
    ):
        said = b"" if row["wrapped_key"] is None else ring.key(row).encrypt(_SAID, row["plain_content"])
        _set("conversations", row["id"], content=said)
    urls = people.format("c.id, c.plain_recording_url", "calls c", "k.id = c.contact_id")
    for row in _pages(f"{urls} WHERE c.plain_recording_url IS NOT NULL", "c.id"):
        _set("calls", row["id"], recording_url=ring.key(row).encrypt(_RECORDING, row["plain_recording_url"]))
    run_script("0006_finish.sql")


def downgrade() -> None:
    """Decrypts again. Who was erased stays erased: a number that nobody can call takes their number's place."""
    run_script("0006_down.sql")
    ring = _Ring()
    people = "SELECT {}, k.id AS person, k.namespace, k.key_version, k.wrapped_key FROM {} JOIN contacts k ON {}"
    said = people.format(
        "t.id, t.sealed_content", "conversations t JOIN calls c ON c.id = t.call_id", "k.id = c.contact_id"
    )
    for row in _pages(said, "t.id"):
        _set("conversations", row["id"], content=_opened(ring, row, _SAID, row["sealed_content"]) or "")
    urls = people.format("c.id, c.sealed_recording_url", "calls c", "k.id = c.contact_id")
    for row in _pages(f"{urls} WHERE c.sealed_recording_url IS NOT NULL", "c.id"):
        _set("calls", row["id"], recording_url=_opened(ring, row, _RECORDING, row["sealed_recording_url"]))
    contacts = "SELECT id, id AS person, namespace, sealed_phone, sealed_name, key_version, wrapped_key FROM contacts"
    for row in _pages(contacts, "id"):
        phone = _opened(ring, row, _PHONE, row["sealed_phone"])
        _set("contacts", row["id"], phone=phone or "", name=_opened(ring, row, _NAME, row["sealed_name"]))
    op.execute(
        "ALTER TABLE contacts ALTER COLUMN phone SET NOT NULL, DROP COLUMN sealed_phone, DROP COLUMN sealed_name,"
        " DROP COLUMN dial_prefix, DROP COLUMN key_version, DROP COLUMN wrapped_key, DROP COLUMN erased_at"
    )
    op.execute("ALTER TABLE conversations ALTER COLUMN content SET NOT NULL, DROP COLUMN sealed_content")
    op.execute("ALTER TABLE calls DROP COLUMN sealed_recording_url")


class _Ring:
    """The installation's keys, asked for only when somebody is stored."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Keyring] = {}

    def of(self, namespace: str) -> Keyring:
        if namespace not in self._namespaces:
            keys = os.environ.get("CALLFLEET_ENCRYPTION_KEYS", "")
            if not keys:
                raise SchemaError("set CALLFLEET_ENCRYPTION_KEYS: people are stored, and this revision encrypts them")
            self._namespaces[namespace] = Keyring.parse(keys).of_namespace(namespace)
        return self._namespaces[namespace]

    def key(self, row: Mapping[str, Any]) -> DataKey:
        wrapped = WrappedKey(row["key_version"], bytes(row["wrapped_key"]))
        return self.of(row["namespace"]).unwrap(row["person"], wrapped)


def _seal_contact(ring: _Ring, row: Mapping[str, Any]) -> None:
    if not row["plain_phone"]:  # erased before a downgrade
        op.get_bind().execute(text("UPDATE contacts SET erased_at = now() WHERE id = :id"), {"id": row["id"]})
        return
    key, wrapped = ring.of(row["namespace"]).new_key(row["id"])
    name = row["plain_name"]
    _set(
        "contacts",
        row["id"],
        phone=key.encrypt(_PHONE, row["plain_phone"]),
        name=None if name is None else key.encrypt(_NAME, name),
        dial_prefix=row["plain_phone"][:_PREFIX],
        key_version=wrapped.version,
        wrapped_key=wrapped.wrapped,
    )


def _opened(ring: _Ring, row: Mapping[str, Any], name: str, sealed: bytes | None) -> str | None:
    if sealed is None or row["wrapped_key"] is None:
        return None
    return ring.key(row).decrypt(name, bytes(sealed))


def _pages(select: str, by: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a query, in pages by their key, so that a million of them are never held at once."""
    after, joint = None, "AND" if "WHERE" in select else "WHERE"
    bind: Callable[..., Any] = op.get_bind().execute
    while True:
        page = f"{select} {joint} (CAST(:after AS uuid) IS NULL OR {by} > :after) ORDER BY {by} LIMIT {PAGE}"
        rows = bind(text(page), {"after": after}).mappings().all()
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1]["id"]


def _set(table: str, identity: Any, **values: Any) -> None:
    columns = ", ".join(f"{name} = :{name}" for name in values)
    op.get_bind().execute(text(f"UPDATE {table} SET {columns} WHERE id = :id"), {"id": identity, **values})  # noqa: S608
