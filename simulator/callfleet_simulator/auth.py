"""Who may ask: basic auth with the account's token or an API key."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Annotated

from fastapi import Depends, Request

from callfleet_simulator.carrier import Carrier
from callfleet_simulator.errors import not_found, unauthorised
from callfleet_simulator.resource import API_VERSION


def carrier_of(request: Request) -> Carrier:
    """The carrier of the account that the basic auth proves. Raises ApiError 20003."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise unauthorised() from error
    carriers: tuple[Carrier, ...] = request.app.state.carriers
    for carrier in carriers:
        secrets = {carrier.config.account_sid: carrier.config.auth_token, **carrier.config.api_keys}
        expected = secrets.get(user, "")
        known = bool(expected) and hmac.compare_digest(expected.encode(), password.encode())
        if scheme.lower() == "basic" and known:
            return carrier
    raise unauthorised()


def account_carrier(account_sid: str, carrier: Annotated[Carrier, Depends(carrier_of)]) -> Carrier:
    """The carrier, when the path names its account. Raises ApiError 20404."""
    if account_sid != carrier.config.account_sid:
        raise not_found(f"/{API_VERSION}/Accounts/{account_sid}.json")
    return carrier


Authenticated = Annotated[Carrier, Depends(carrier_of)]
Account = Annotated[Carrier, Depends(account_carrier)]
