"""The named errors of core; each text says what the user can do."""

from __future__ import annotations


class CallFleetError(Exception):
    """Base of every error that CallFleet raises on purpose."""


class StaleEpochError(CallFleetError):
    """A ledger write came from an operator that is no longer the leader; it must stop planning."""


class CarrierError(CallFleetError):
    """The carrier's answer lacks what is needed; it is asked again."""


class HashKeyError(CallFleetError):
    """The key of the numbers' hashes is missing, or is not the installation's."""


class PhoneError(CallFleetError, ValueError):
    """A phone number that cannot be dialled as written."""


class PricingError(CallFleetError, ValueError):
    """The price list lacks or misstates a price."""


class NoPriceError(PricingError):
    """No price covers a meter that the call would run."""


class DatabaseUrlError(CallFleetError, ValueError):
    """An address that is not PostgreSQL's; the text does not repeat it."""


class SchemaError(CallFleetError):
    """The database's schema is not the one that this version needs."""
