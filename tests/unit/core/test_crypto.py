"""A person's key, wrapped by the namespace's: what opens, what does not, and what is left after an erasure."""

from __future__ import annotations

import base64
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_core.crypto import ErasedError, Keyring, KeyringError, TamperedError, WrappedKey

ONE, TWO = b"\x01" * 32, b"\x02" * 32
RING = Keyring({1: ONE})
PHONE = "contacts.phone"


@given(st.text(max_size=300))
def test_what_is_encrypted_is_read_back(text: str) -> None:
    key, stored = RING.new_key(uuid4())
    assert RING.unwrap(key.subject, stored).decrypt(PHONE, key.encrypt(PHONE, text)) == text


def test_the_same_text_never_looks_the_same() -> None:
    key, _ = RING.new_key(uuid4())
    assert key.encrypt(PHONE, "+15550100001") != key.encrypt(PHONE, "+15550100001")


def test_a_ciphertext_opens_only_where_it_belongs() -> None:
    key, stored = RING.new_key(uuid4())
    other, _ = RING.new_key(uuid4())
    sealed = key.encrypt(PHONE, "+15550100001")
    for reader, name in ((other, PHONE), (key, "contacts.name")):
        with pytest.raises(TamperedError):
            reader.decrypt(name, sealed)
    with pytest.raises(TamperedError):
        RING.unwrap(other.subject, stored)  # a wrapped key that was moved to another person
    for changed in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"\x02" + sealed[1:], b""):
        with pytest.raises(TamperedError):
            key.decrypt(PHONE, changed)


def test_a_namespace_reads_its_own_people_only() -> None:
    sales, clinic = RING.of_namespace("sales"), RING.of_namespace("clinic")
    key, stored = sales.new_key(uuid4())
    assert RING.of_namespace("sales").unwrap(key.subject, stored) == key
    for stranger in (clinic, RING):
        with pytest.raises(TamperedError):
            stranger.unwrap(key.subject, stored)


def test_a_rotation_wraps_anew_and_re_encrypts_nothing() -> None:
    key, old = RING.new_key(uuid4())
    sealed = key.encrypt(PHONE, "+15550100001")
    both = Keyring({1: ONE, 2: TWO})
    new = both.wrap(both.unwrap(key.subject, old))
    assert (old.version, new.version) == (1, 2)
    assert Keyring({2: TWO}).unwrap(key.subject, new).decrypt(PHONE, sealed) == "+15550100001"
    with pytest.raises(KeyringError, match=r"version 1 .* is missing"):
        Keyring({2: TWO}).unwrap(key.subject, old)


def test_without_its_key_nothing_is_left() -> None:
    with pytest.raises(ErasedError):
        RING.unwrap(uuid4(), None)


def test_keys_are_read_as_the_settings_write_them() -> None:
    both = Keyring({1: ONE, 2: TWO})
    assert Keyring.parse(both.text()) == both
    assert both.text().startswith("2:")
    assert Keyring.parse(f" 1:{base64.b64encode(ONE).decode()} ").newest == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no encryption key"),
        (base64.b64encode(ONE).decode(), "VERSION:BASE64"),
        ("1:" + base64.b64encode(b"short").decode(), "32 bytes"),
        ("1:a", "not base64"),
        (f"1:{base64.b64encode(ONE).decode()},1:{base64.b64encode(TWO).decode()}", "each version once"),
    ],
)
def test_bad_keys_are_told_and_never_repeated(text: str, told: str) -> None:
    with pytest.raises(KeyringError, match=told) as refused:
        Keyring.parse(text)
    assert not text or text not in str(refused.value)


def test_keys_do_not_show() -> None:
    key, stored = RING.new_key(uuid4())
    for item in (RING, key):
        assert "\\x01" not in repr(item)
    assert isinstance(stored, WrappedKey)
