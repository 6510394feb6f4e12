"""The key of the numbers' hashes: one an installation, for ever."""

from __future__ import annotations

import hashlib
import hmac

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from callfleet_core.errors import HashKeyError
from callfleet_core.phone import number_hash
from callfleet_core.subjects import Subjects

_PURPOSE = b"callfleet: the key of the numbers' hashes"
_SOMEONE = """
SELECT id, namespace, number_hash, phone, key_version, wrapped_key FROM contacts WHERE wrapped_key IS NOT NULL LIMIT 1
"""


async def assert_hash_key(connection: AsyncConnection, subjects: Subjects) -> None:
    """Refuses a key that is not the installation's: with it everybody would be somebody new, and be called again.

    The first key that is seen becomes the installation's, if it is the one that the contacts were hashed with. Raises
    HashKeyError.
    """
    key = subjects.hash_key
    check = hmac.new(key, _PURPOSE, hashlib.sha256).hexdigest()
    known = await connection.scalar(text("SELECT hash_key_check FROM installation WHERE id = 1 FOR UPDATE"))
    if known is None:
        someone = (await connection.execute(text(_SOMEONE))).mappings().one_or_none()
        fits = someone is None or hmac.compare_digest(
            someone["number_hash"], number_hash(subjects.open(dict(someone)).phone, key)
        )
    else:
        fits = hmac.compare_digest(known, check)
    if not fits:
        raise HashKeyError("CALLFLEET_HASH_KEY is not the key that this installation's contacts were stored with")
    if known is None:
        await connection.execute(text("UPDATE installation SET hash_key_check = :check WHERE id = 1"), {"check": check})
