"""Phone numbers: E.164, and the keyed hash that stands for a number wherever the number itself must not be."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import phonenumbers
from phonenumbers import timezone

from callfleet_core.errors import PhoneError

# Old names that phonenumbers still uses: a PostgreSQL or a Python on a system without the old names has no such zones.
_RENAMED: Final = {
    "Africa/Asmera": "Africa/Asmara",
    "America/Buenos_Aires": "America/Argentina/Buenos_Aires",
    "America/Godthab": "America/Nuuk",
    "Asia/Calcutta": "Asia/Kolkata",
    "Asia/Choibalsan": "Asia/Ulaanbaatar",
    "Asia/Katmandu": "Asia/Kathmandu",
    "Asia/Rangoon": "Asia/Yangon",
    "Atlantic/Faeroe": "Atlantic/Faroe",
    "Pacific/Enderbury": "Pacific/Kanton",
    "Pacific/Ponape": "Pacific/Pohnpei",
    "Pacific/Truk": "Pacific/Chuuk",
}
E164_PATTERN = r"^\+[1-9]\d{6,14}$"


def normalise(number: str) -> str:
    """A number in E.164 as dialled, e.g. "+15550100001".

    Fictional and unassigned ranges are accepted (the samples use them); the shape alone is checked.
    Raises PhoneError without repeating the number, which is personal.
    """
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException as error:
        raise PhoneError("a phone number is not in international form: write it like +15550100001") from error
    if not phonenumbers.is_possible_number(parsed):
        raise PhoneError("a phone number has the wrong number of digits for its country: check it")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def time_zones(number: str) -> tuple[str, ...]:
    """The IANA names of the time zones in which whoever answers an E.164 number may be; none where it does not tell.

    Several for numbers of no place in a country of several: mobile, toll-free. Fictional numbers tell none.
    """
    try:
        names = timezone.time_zones_for_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException as error:
        raise PhoneError("a phone number is not in international form: write it like +15550100001") from error
    return tuple(zone_name(name) for name in names if name != timezone.UNKNOWN_TIMEZONE)


def zone_name(name: str) -> str:
    """The name that a zone of phonenumbers has today."""
    return _RENAMED.get(name, name)


def number_hash(number: str, key: bytes) -> str:
    """HMAC-SHA256 of an E.164 number under the installation's key, 64 hex digits.

    One number has one hash in the whole installation, so that a unique index can forbid two open attempts to it.
    """
    return hmac.new(key, number.encode(), hashlib.sha256).hexdigest()


def contact_digest(namespace: str, number: str, key: bytes) -> bytes:
    """HMAC-SHA256 (32 bytes) of namespace and number: a contact's identity inside its namespace."""
    return hmac.new(key, f"{namespace}\0{number}".encode(), hashlib.sha256).digest()
