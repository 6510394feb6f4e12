"""The carrier accounts that campaigns name: read from their Secrets, proven at the carrier, put in force."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import replace

import structlog

from callfleet_core.carriers import (
    CarrierAccount,
    CarrierRegister,
    CarrierSecretError,
    Source,
    parse_account,
)
from callfleet_core.errors import CarrierError
from callfleet_operator.carrier import Carrier
from callfleet_operator.kube import Kube
from callfleet_operator.objects import Campaign

INSTALLATION = Source()

_log = structlog.get_logger(__name__)


class Carriers:
    """Every account in use, by its Secret, and a client of each by its SID."""

    def __init__(
        self,
        kube: Kube,
        register: CarrierRegister,
        installation: CarrierAccount,
        tokens: tuple[str, str],
        client: Callable[[CarrierAccount], Carrier] = Carrier,
    ) -> None:
        """`tokens`: namespace and name of the Secret from which the gateway learns the accounts' auth tokens."""
        self._kube, self._register, self._tokens = kube, register, tokens
        self._installation = installation
        self._client = client
        self._found: dict[Source, CarrierAccount | str] = {}
        self._clients: dict[str, Carrier] = {}

    async def start(self) -> None:
        """Puts the installation's own account in force."""
        await self._take(self._installation)

    async def close(self) -> None:
        """Ends the connections."""
        for client in self._clients.values():
            await client.close()

    def of(self, campaign: Campaign) -> CarrierAccount | str | None:
        """The account that calls for a campaign; a text says why there is none; None: not looked at yet."""
        found = self._found.get(source_of(campaign))
        if isinstance(found, CarrierAccount) and found.numbers:
            for index, number in enumerate(campaign.spec.call.from_):
                if number not in found.numbers:
                    name = campaign.spec.carrier_ref.name if campaign.spec.carrier_ref else "?"
                    return f"Secret {name} does not list the number of spec.call.from[{index}]: add it, or use another"
        return found

    async def client(self, account_sid: str) -> Carrier:
        """A client of an account, also of one that no campaign names any more. Raises CarrierError."""
        if account_sid not in self._clients:
            source = await self._register.source(account_sid)
            if source is None:
                raise CarrierError("the call's carrier account is not known: was the database replaced?")
            await self.look(source)
            if account_sid not in self._clients:
                raise CarrierError(f"the call's carrier account cannot be used: {self._found.get(source)}")
        return self._clients[account_sid]

    def forget(self, source: Source) -> None:
        """No campaign names this Secret any more; live calls of its account keep their client."""
        self._found.pop(source, None)

    async def look(self, source: Source) -> bool:
        """Reads a Secret again; true when it means something else than before."""
        before = self._found.get(source)
        try:
            after = await self._read(source)
        except CarrierSecretError as error:
            after = f"Secret {source.name}: {error}"
        except CarrierError as error:
            # What was proven before stays in use while the carrier is away.
            after = before if isinstance(before, CarrierAccount) else str(error)
        self._found[source] = after
        if after != before:
            _log.info("carrier looked at", secret=source.name, usable=isinstance(after, CarrierAccount))
        return after != before

    async def _read(self, source: Source) -> CarrierAccount | str:
        if source.namespace is None or source.name is None:
            return self._installation
        data = await self._kube.read_secret(source.namespace, source.name)
        if data is None:
            return f"Secret {source.name} is not there: create it in this namespace (docs/carriers.md)"
        account = parse_account(data, source, self._installation)
        if account != self._found.get(source):
            await self._accept(account)
        return account

    async def _accept(self, account: CarrierAccount) -> None:
        """Puts a new or changed account in force, once the carrier knows its credentials.

        Raises CarrierSecretError where it cannot be used, CarrierError while nobody can tell.
        """
        # The token, too, where a key places the calls: webhooks are checked with it.
        for login in {account, replace(account, api_key_sid=None, api_key_secret=None)}:
            client = self._client(login)
            try:
                await client.prove()
            finally:
                await client.close()
        owner = await self._register.source(account.account_sid)
        if owner is None or owner == account.source:
            await self._take(account)
            return
        held = self._found.get(owner)
        if held is None:
            await self.look(owner)
            held = self._found.get(owner)
        if not isinstance(held, CarrierAccount) or held.account_sid != account.account_sid:
            await self._take(account, replaces=owner)
        elif not _is_same(held, account):
            raise CarrierSecretError(
                "another Secret has this account with another authToken, apiBaseURL or publicURL: make them the same"
            )

    async def _take(self, account: CarrierAccount, replaces: Source | None = None) -> None:
        if not await self._register.put_in_force(account, replaces):
            raise CarrierSecretError("another Secret has just taken this account: looking again")
        if account.source != INSTALLATION:
            entry = {"authToken": account.auth_token.get_secret_value(), "publicURL": account.public_url}
            await self._kube.merge_secret(*self._tokens, {account.account_sid: json.dumps(entry)})
        old = self._clients.pop(account.account_sid, None)
        self._clients[account.account_sid] = self._client(account)
        self._found[account.source] = account
        if old is not None:
            await old.close()


def source_of(campaign: Campaign) -> Source:
    """The Secret that a campaign names, or the installation's own account."""
    ref = campaign.spec.carrier_ref
    return Source(campaign.meta.namespace, ref.name) if ref else INSTALLATION


def _is_same(one: CarrierAccount, other: CarrierAccount) -> bool:
    tokens = (one.auth_token.get_secret_value().encode(), other.auth_token.get_secret_value().encode())
    return hmac.compare_digest(*tokens) and (one.api_base_url, one.public_url) == (
        other.api_base_url,
        other.public_url,
    )
