"""The key of the numbers' hashes: one an installation, for ever."""

from __future__ import annotations

import hashlib
import hmac

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from callfleet_core.errors import HashKeyError
from callfleet_core.phone import number_hash

_PURPOSE = b"callfleet: the key of the numbers' hashes"


async def assert_hash_key(connection: AsyncConnection, key: bytes) -> None:
    """Refuses a key that is not the installation's: with it everybody would be somebody new, and be called again.

    The first key that is seen becomes the installation's, if it is the one that the contacts were hashed with. Raises
    HashKeyError.
    """
    check = hmac.new(key, _PURPOSE, hashlib.sha256).hexdigest()
    known = await connection.scalar(text("SELECT hash_key_check FROM installation WHERE id = 1 FOR UPDATE"))
    if known is None:
        someone = (await connection.execute(text("SELECT phone, number_hash FROM contacts LIMIT 1"))).one_or_none()
        fits = someone is None or hmac.compare_digest(someone.number_hash, number_hash(someone.phone, key))
    else:
        fits = hmac.compare_digest(known, check)
    if not fits:
        raise HashKeyError("CALLFLEET_HASH_KEY is not the key that this installation's contacts were stored with")
    if known is None:
        await connection.execute(text("UPDATE installation SET hash_key_check = :check WHERE id = 1"), {"check": check})
