"""What is personal of a contact, as it is stored: each field encrypted with the person's own key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from callfleet_core.contacts import ContactIn, contact_id
from callfleet_core.crypto import DataKey, Keyring, WrappedKey
from callfleet_core.phone import number_hash, time_zones
from callfleet_core.pricing.book import LONGEST_PREFIX

# The names that bind a ciphertext to its place; changing one makes what is stored unreadable.
PHONE: Final = "contacts.phone"
NAME: Final = "contacts.name"
SAID: Final = "conversations.content"
RECORDING: Final = "calls.recording_url"


@dataclass(frozen=True)
class SealedContact:
    """A contact's row. Of the number, its beginning stays readable, which prices depend on, its time zones, and its
    keyed hash."""

    id: UUID
    namespace: str
    number_hash: str
    phone: bytes
    name: bytes | None
    dial_prefix: str
    time_zones: tuple[str, ...]
    key_version: int
    wrapped_key: bytes


class Subjects:
    """Seals contacts, and opens what is stored of them."""

    def __init__(self, ring: Keyring, hash_key: bytes) -> None:
        """`ring`: the installation's keys."""
        self._ring, self._hash_key = ring, hash_key
        self._of_namespace = lru_cache(maxsize=1024)(ring.of_namespace)

    @property
    def hash_key(self) -> bytes:
        """The key of the numbers' hashes."""
        return self._hash_key

    @property
    def newest_version(self) -> int:
        """The version of the keys that new people get."""
        return self._ring.newest

    def ring(self, namespace: str) -> Keyring:
        """A namespace's keys."""
        return self._of_namespace(namespace)

    def seal(self, namespace: str, contact: ContactIn) -> SealedContact:
        """A contact under a new key of their own; somebody who is stored already keeps the key that they have."""
        identity = contact_id(namespace, contact.phone, self._hash_key)
        key, wrapped = self.ring(namespace).new_key(identity)
        return SealedContact(
            id=identity,
            namespace=namespace,
            number_hash=number_hash(contact.phone, self._hash_key),
            phone=key.encrypt(PHONE, contact.phone),
            name=None if contact.name is None else key.encrypt(NAME, contact.name),
            dial_prefix=contact.phone[:LONGEST_PREFIX],
            time_zones=time_zones(contact.phone),
            key_version=wrapped.version,
            wrapped_key=wrapped.wrapped,
        )

    def open(self, row: Mapping[str, Any]) -> OpenContact:
        """What is stored of a contact, from a row with id, namespace, phone, name, key_version and wrapped_key.

        Raises ErasedError, TamperedError or KeyringError.
        """
        key = self.key(row)
        phone, name = row.get("phone"), row.get("name")
        return OpenContact(
            key,
            "" if phone is None else key.decrypt(PHONE, bytes(phone)),
            None if name is None else key.decrypt(NAME, bytes(name)),
        )

    def key(self, row: Mapping[str, Any]) -> DataKey:
        """A contact's key, from a row with id, namespace, key_version and wrapped_key. Raises as `open` does."""
        return self.ring(row["namespace"]).unwrap(row["id"], stored_key(row))


@dataclass(frozen=True)
class OpenContact:
    """A person. Never logged."""

    key: DataKey
    phone: str = field(repr=False)
    name: str | None = field(repr=False)


def stored_key(row: Mapping[str, Any]) -> WrappedKey | None:
    """The wrapped key of a row; None when the person was erased."""
    wrapped = row["wrapped_key"]
    return None if wrapped is None else WrappedKey(row["key_version"], bytes(wrapped))
