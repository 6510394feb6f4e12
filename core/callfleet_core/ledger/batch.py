"""What `ledger_hold` and `ledger_settle` are sent; what a hold's items have in common is said once, a script if new."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic_core import to_json

from callfleet_core.ledger.records import HoldAnswer, HoldRequest, HoldResult, Settlement
from callfleet_core.pricing import CostLine

_MOST_SCRIPTS: Final = 1_024


class KnownScripts:
    """The digests of the scripts that the database has for certain; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, None] = OrderedDict()

    def add(self, digests: Iterable[str]) -> None:
        """Remembers what a committed batch has stored."""
        self._digests |= dict.fromkeys(digests)
        while len(self._digests) > _MOST_SCRIPTS:
            self._digests.popitem(last=False)

    def forget(self) -> None:
        """Forgets all: the database may be another one, or an older copy of itself."""
        self._digests.clear()

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests


class Batch:
    """Requests to hold, as one JSON document; `scripts` are the texts by digest.

    Of several for one person in a run only the first is sent: what the database says of it decides about them all.
    """

    def __init__(self, requests: Sequence[HoldRequest]) -> None:
        self._asked = requests
        self._first: dict[tuple[object, ...], int] = {}
        self._places_of = [
            self._first.setdefault((each.contact_id, each.run_id, each.campaign), place)
            for place, each in enumerate(requests)
        ]
        self._requests = [requests[place] for place in self._first.values()]
        self.scripts: dict[str, str] = {}
        self._terms: dict[tuple[Any, ...], int] = {}
        # By the very object, which requests of one campaign mostly share, and which lives as long as they do.
        self._digests: dict[int, str] = {}
        self._caps: dict[int, _Caps] = {}
        self._places = [self._place(request) for request in self._requests]

    def document(self, known: KnownScripts) -> str:
        """The JSON, with the scripts that are not `known`; items are a list a column, which is half the text."""
        requests = self._requests
        document: dict[str, object] = {
            "terms": [_said_once(terms) for terms in self._terms],
            "attempt_ids": [request.attempt_id for request in requests],
            "numbers": [request.number for request in requests],
            "contact_ids": [request.contact_id for request in requests],
            "session_names": [request.session_name for request in requests],
            "session_uids": [request.session_uid for request in requests],
            "pod_uids": [request.pod_uid for request in requests],
            "amounts_micros": [request.amount_micros for request in requests],
            "places": self._places,
        }
        new = [text for digest, text in self.scripts.items() if digest not in known]
        return to_json(document | {"scripts": new} if new else document).decode()

    def answers(self, answers: Sequence[Mapping[str, Any]]) -> list[HoldAnswer]:
        """The database's answers, which come in the order of the requests that were sent."""
        times: dict[str, datetime] = {}  # of the few that a batch has, each is read once
        told = [_answer(request, answer, times) for request, answer in zip(self._requests, answers, strict=True)]
        if len(told) == len(self._asked):
            return told
        by_place = dict(zip(self._first.values(), told, strict=True))
        return [
            _repeated(request, by_place[first]) for request, first in zip(self._asked, self._places_of, strict=True)
        ]

    def _place(self, request: HoldRequest) -> int:
        """Where the request's terms are."""
        digest = self._digests.get(id(request.script))
        if digest is None:
            digest = self._digests[id(request.script)] = self._keep(request.script)
        caps = self._caps.get(id(request.caps))
        if caps is None:
            caps = self._caps[id(request.caps)] = _caps(request.caps)
        terms = (
            digest, request.namespace, request.campaign, request.run_id, request.currency, request.accounts,
            request.time_limit_s, request.ring_timeout_s, request.max_queue_s, request.account_sid,
            request.from_number, request.time_zone, request.max_attempts, request.expires_after_s,
            caps,
        )  # fmt: skip
        return self._terms.setdefault(terms, len(self._terms))

    def _keep(self, script: dict[str, Any]) -> str:
        text = json.dumps(script, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.scripts[digest] = text
        return digest


_TERMS: Final = (
    "script", "namespace", "campaign", "run_id", "currency", "accounts", "time_limit_s", "ring_timeout_s",
    "max_queue_s", "account_sid", "from_number", "time_zone", "max_attempts", "expires_after_s",
    "caps",
)  # fmt: skip
_Caps = tuple[tuple[str, tuple[str, int]], ...]


def _caps(lines: Sequence[CostLine]) -> _Caps:
    """Each meter's cap and what it costs, as a key."""
    return tuple((line.meter, (str(line.quantity), line.amount_micros)) for line in lines)


def _said_once(terms: tuple[Any, ...]) -> dict[str, Any]:
    return {**dict(zip(_TERMS, terms, strict=True)), "caps": dict(terms[-1])}


def _repeated(request: HoldRequest, first: HoldAnswer) -> HoldAnswer:
    """The answer to a request whose person was asked for in this batch: it waits for what becomes of the first."""
    if first.attempt_id == request.attempt_id:
        return first
    return HoldAnswer(request.attempt_id, HoldResult.NUMBER_BUSY)


_RESULTS: Final = {result.value: result for result in HoldResult}


def _answer(request: HoldRequest, answer: Mapping[str, Any], times: dict[str, datetime]) -> HoldAnswer:
    expires_at = answer.get("expires_at")
    if expires_at is not None and expires_at not in times:
        times[expires_at] = datetime.fromisoformat(expires_at)
    return HoldAnswer(
        attempt_id=request.attempt_id,
        result=_RESULTS[answer["result"]],
        account=answer.get("account"),
        shortfall_micros=answer.get("shortfall_micros"),
        expires_at=None if expires_at is None else times[expires_at],
    )


def settlement_document(settlements: Sequence[Settlement]) -> str:
    """The JSON of a batch of settlements; a list a column, as of holds."""
    lines = [
        [
            {"meter": line.meter, "quantity": str(line.quantity), "amount_micros": line.amount_micros}
            for line in each.lines
        ]
        for each in settlements
    ]
    ids = [each.attempt_id for each in settlements]
    return to_json({"attempt_ids": ids, "ends": [each.seen for each in settlements], "lines": lines}).decode()
