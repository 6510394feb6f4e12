"""Personal data at rest: a key for each person, wrapped by a key of the namespace, derived from the installation's.

Envelopes: a person's data key encrypts what is personal (AES-256-GCM, bound to the person and the field); the data key
is stored wrapped by a namespace key, which is derived (HKDF-SHA256) from a master key and never stored. Whoever runs
workers in one namespace has the keys of that namespace only. A person is erased by destroying the wrapped key: whatever
was encrypted with it, wherever it was copied to without the key, is then worth nothing. A backup of the whole database
has both, and needs the master key to be read. Master keys are rotated by wrapping data keys anew; nothing is encrypted
again.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callfleet_core.errors import CallFleetError

KEY_BYTES = 32
NONCE_BYTES = 12  # random; one data key encrypts a person's few hundred texts, far from 2^32
_FORMAT = b"\x01"
_ENTRY = re.compile(r"(\d{1,9}):([A-Za-z0-9+/=_-]+)")


class CryptoError(CallFleetError):
    """What is stored of a person cannot be read."""


class KeyringError(CryptoError, ValueError):
    """The keys in the settings cannot be used; the text never repeats one."""


class ErasedError(CryptoError):
    """The person was erased: there is no key any more, and what was encrypted with it is gone."""


class TamperedError(CryptoError):
    """A ciphertext does not belong where it was found, or its key is not the one it was made with."""


@dataclass(frozen=True)
class WrappedKey:
    """A data key as it is stored: the version of the master key, and the ciphertext."""

    version: int
    wrapped: bytes


@dataclass(frozen=True)
class Keyring:
    """Keys by version, the newest of which wraps new data keys. Of an installation, or of one namespace."""

    keys: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise KeyringError("there is no encryption key: set one like 1:BASE64 of 32 random bytes")
        if any(len(key) != KEY_BYTES for key in self.keys.values()):
            raise KeyringError(f"an encryption key is not {KEY_BYTES} bytes long: make it with openssl rand -base64 32")

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Keys as the settings write them: `2:BASE64,1:BASE64`. Raises KeyringError."""
        keys: dict[int, bytes] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            match = _ENTRY.fullmatch(entry)
            if match is None or int(match[1]) in keys:
                raise KeyringError("encryption keys are written VERSION:BASE64, separated by commas, each version once")
            try:
                keys[int(match[1])] = base64.b64decode(match[2], validate=True)
            except binascii.Error as error:
                raise KeyringError(f"encryption key {match[1]} is not base64") from error
        return cls(keys)

    def text(self) -> str:
        """The keys as `parse` reads them, newest first. Secret."""
        versions = sorted(self.keys, reverse=True)
        return ",".join(f"{version}:{base64.b64encode(self.keys[version]).decode()}" for version in versions)

    @property
    def newest(self) -> int:
        """The version that wraps new data keys."""
        return max(self.keys)

    def of_namespace(self, namespace: str) -> Keyring:
        """The namespace's keys, derived from these; nothing of these can be told from them."""
        return Keyring({version: _derived(key, namespace) for version, key in self.keys.items()})

    def new_key(self, subject: UUID) -> tuple[DataKey, WrappedKey]:
        """A person's new data key, and how it is stored."""
        key = DataKey(subject, secrets.token_bytes(KEY_BYTES))
        return key, self.wrap(key)

    def wrap(self, key: DataKey) -> WrappedKey:
        """A data key as it is stored, under the newest version."""
        return WrappedKey(self.newest, _seal(self.keys[self.newest], key.secret, _context(key.subject, "key")))

    def unwrap(self, subject: UUID, stored: WrappedKey | None) -> DataKey:
        """The data key. Raises ErasedError without one, TamperedError for another's, KeyringError for a lost one."""
        if stored is None:
            raise ErasedError("this person was erased: what was stored is gone")
        if stored.version not in self.keys:
            raise KeyringError(
                f"version {stored.version} of the encryption key is missing: keep it until it is rotated"
            )
        return DataKey(subject, _open(self.keys[stored.version], stored.wrapped, _context(subject, "key")))


@dataclass(frozen=True)
class DataKey:
    """One person's key."""

    subject: UUID
    secret: bytes = field(repr=False)

    def encrypt(self, name: str, text: str) -> bytes:
        """A field's text, bound to this person and the field's name, such as "contacts.phone"."""
        return _seal(self.secret, text.encode(), _context(self.subject, name))

    def decrypt(self, name: str, stored: bytes) -> str:
        """The field's text. Raises TamperedError where it is another's, or another field's."""
        return _open(self.secret, stored, _context(self.subject, name)).decode()


def _context(subject: UUID, name: str) -> bytes:
    return subject.bytes + name.encode()


def _derived(key: bytes, namespace: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"callfleet namespace key\0" + namespace.encode()).derive(key)


def _seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key).encrypt(nonce, plain, context)


def _open(key: bytes, stored: bytes, context: bytes) -> bytes:
    if stored[:1] != _FORMAT:
        raise TamperedError("a ciphertext is of a form that this version does not know")
    try:
        return AESGCM(key).decrypt(stored[1 : 1 + NONCE_BYTES], stored[1 + NONCE_BYTES :], context)
    except (InvalidTag, ValueError) as error:
        raise TamperedError("a ciphertext does not open: it was moved or changed, or the key is another") from error
