"""A Campaign is deleted and made again, or its list: who waited stays due, who was taken out is not called."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.integration.books import SUBJECTS
from tests.integration.operator_parts import GROUP, Operator, campaign_body
from tests.integration.test_admission_queue import MERGE, begin, body, cycle, ready_pod
from tests.integration.waiting_parts import called, people, states

from callfleet_core.lists import ContactLists
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import attempts, campaign

RETRIED: dict[str, Any] = {"pacing": {"maxConcurrent": 1}, "attempts": {"max": 2, "retryAfterMinutes": {"busy": 60}}}
LISTED: dict[str, Any] = {"contacts": {"listRef": {"name": "people"}}, "worker": {"slotsPerWorker": 4}}


def delete(running: Operator, namespace: str, kind: str, name: str) -> None:
    with suppress(HTTPError):  # gone already
        running.server.request("DELETE", f"{GROUP}/{namespace}/{kind}/{name}")


async def lose(running: Operator, namespace: str) -> None:
    """The Campaign is deleted, and goes: none of its calls is open."""
    delete(running, namespace, "campaigns", "spring")
    for _ in range(2):
        await running.see()
        await campaign.reconcile(running.context, Key("Campaign", namespace, "spring"))


async def collect(running: Operator, namespace: str, *names: str) -> None:
    """Sessions are deleted as the garbage collector does it: those of an owner that is gone."""
    for name in names:
        delete(running, namespace, "callsessions", name)
    await running.tend_sessions(namespace)


async def counts(running: Operator, namespace: str) -> tuple[int, int]:
    found = (await running.reconcile(namespace, "spring"))["status"]["contacts"]
    return found["total"], found["done"]


def names(running: Operator, namespace: str) -> list[str]:
    return [item.meta.name for item in running.context.store.sessions(namespace)]


async def put(running: Operator, namespace: str, *indexes: int) -> None:
    """Imports the list anew, of these people."""
    await ContactLists(running.context.engine).import_rows(namespace, "people", people(*indexes), SUBJECTS)


async def follow(running: Operator, namespace: str) -> None:
    """The operator takes the list, and looks at whoever is in it."""
    for _ in range(3):
        await running.reconcile(namespace, "spring")
        await attempts.reconcile(running.context)
        await running.tend_sessions(namespace)


@pytest.mark.parametrize("late", [False, True])
async def test_a_campaign_that_is_made_again_calls_those_who_waited(
    admitting: Operator, namespace: str, late: bool
) -> None:
    """`late`: the collector comes to the old sessions when the new Campaign is there already."""
    spring = body(namespace, "spring", 0, people=4, lookAhead=2)
    await begin(admitting, namespace, spring)
    before = names(admitting, namespace)
    await lose(admitting, namespace)
    if late:
        admitting.apply(spring)
        await collect(admitting, namespace, *before)
    else:
        await collect(admitting, namespace, *before)
        admitting.apply(spring)
    for _ in range(2):
        await admitting.reconcile(namespace, "spring")
    assert await counts(admitting, namespace) == (4, 0)
    assert sorted(names(admitting, namespace)) == sorted(before)


async def test_who_waited_for_an_earlier_campaign_of_the_name_is_called_for_the_new_one_only(
    admitting: Operator, namespace: str
) -> None:
    """The collector, which has not come yet, would end a call of theirs in its middle."""
    spring = body(namespace, "spring", 0, people=2)
    await begin(admitting, namespace, spring)
    await ready_pod(admitting, namespace)
    await lose(admitting, namespace)
    admitting.apply(spring)
    await admitting.see()
    earlier = {item.meta.name: item.meta.uid for item in admitting.context.store.sessions(namespace)}
    assert len(earlier) == 2
    assert states(await cycle(admitting, namespace)) == ["NoCapacity"] * 2  # as they were born
    for _ in range(3):
        await admitting.reconcile(namespace, "spring")
        await admitting.tend_sessions(namespace)
    now = {item.meta.name: item.meta.uid for item in admitting.context.store.sessions(namespace)}
    assert now.keys() == earlier.keys()
    assert not set(now.values()) & set(earlier.values())
    assert states(await cycle(admitting, namespace)) == ["Admitted"] * 2
    assert await counts(admitting, namespace) == (2, 0)


async def test_who_leaves_the_list_in_a_call_that_nobody_answers_is_done(admitting: Operator, namespace: str) -> None:
    await put(admitting, namespace, 1, 2)
    admitting.apply(campaign_body(namespace, "spring", **LISTED, **RETRIED))
    await follow(admitting, namespace)
    await ready_pod(admitting, namespace)
    assert states(await cycle(admitting, namespace)) == ["Admitted", "Pacing"]

    async def leaves() -> None:
        await put(admitting, namespace, 2)
        await follow(admitting, namespace)
        assert await counts(admitting, namespace) == (2, 0)  # the phone rings still

    await called(admitting, namespace, "CA" + "1" * 32, None, "busy", meanwhile=leaves)
    await follow(admitting, namespace)
    assert await counts(admitting, namespace) == (2, 1)
    assert len(names(admitting, namespace)) == 1


async def test_who_was_called_stays_called_and_who_was_busy_is_tried_again(admitting: Operator, namespace: str) -> None:
    spring = body(namespace, "spring", 0, people=3, **RETRIED)
    await begin(admitting, namespace, spring)
    await ready_pod(admitting, namespace)
    await cycle(admitting, namespace)
    await called(admitting, namespace, "CA" + "1" * 32)
    await cycle(admitting, namespace)
    await called(admitting, namespace, "CA" + "2" * 32, None, "busy")
    before = names(admitting, namespace)
    await lose(admitting, namespace)
    await collect(admitting, namespace, *before)
    await begin(admitting, namespace, spring)
    assert await counts(admitting, namespace) == (3, 1)
    assert states(await cycle(admitting, namespace)) == ["RetryScheduled", "Admitted"]


async def test_with_a_campaign_that_hangs_up_and_takes_its_sessions_along_nobody_who_waited_is_done(
    admitting: Operator, namespace: str
) -> None:
    """As `kubectl delete --cascade=foreground`: the sessions go first."""
    spring = body(namespace, "spring", 0, people=2, deletionPolicy="HangUp")
    await begin(admitting, namespace, spring)
    await ready_pod(admitting, namespace)
    assert states(await cycle(admitting, namespace)) == ["Admitted"] * 2
    before = names(admitting, namespace)
    delete(admitting, namespace, "campaigns", "spring")
    await collect(admitting, namespace, *before)
    await lose(admitting, namespace)
    await begin(admitting, namespace, spring)
    assert await counts(admitting, namespace) == (2, 0)


@pytest.mark.parametrize("by", ["its deletion", "cancel"])
async def test_whoever_is_taken_out_of_a_run_stays_out(admitting: Operator, namespace: str, by: str) -> None:
    spring = body(namespace, "spring", 0, people=2)
    await begin(admitting, namespace, spring)
    first, second = names(admitting, namespace)
    if by == "cancel":
        path = f"{GROUP}/{namespace}/callsessions/{first}"
        admitting.server.request("PATCH", path, {"spec": {"cancel": True}}, MERGE)
        await admitting.tend_sessions(namespace)
    await collect(admitting, namespace, first)
    await lose(admitting, namespace)
    await collect(admitting, namespace, second)
    await begin(admitting, namespace, spring)
    assert await counts(admitting, namespace) == (2, 1)
    assert names(admitting, namespace) == [second]


async def test_somebody_may_come_back_who_left_a_list_with_a_grant_that_was_never_dialled(
    admitting: Operator, namespace: str
) -> None:
    admitting.apply(campaign_body(namespace, "spring", **LISTED))
    await put(admitting, namespace, 1, 2)
    await follow(admitting, namespace)
    await ready_pod(admitting, namespace)
    assert states(await cycle(admitting, namespace)) == ["Admitted"] * 2
    for listed in ((2,), (1, 2)):  # left out by mistake, and back
        await put(admitting, namespace, *listed)
        await follow(admitting, namespace)
    assert await counts(admitting, namespace) == (2, 0)
    assert states(await cycle(admitting, namespace)) == ["Admitted"] * 2
