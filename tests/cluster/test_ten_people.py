"""Ten people of all kinds in one Campaign, several at once: each call ends as it should, and the books with the bill.

Beside the ten there are a contact without consent, who is never called, and a number that the carrier refuses.
"""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from tests.cluster.world import World

from callfleet_core.money import MICROS_PER_UNIT
from callfleet_core.subjects import SAID

WITHOUT_CONSENT, REFUSED = "+15550100140", "+15550100141"
# Who is called, in this order: the state and the disposition of their session.
ENDS = {
    "+15550100130": ("Completed", "qualified"),  # willing
    "+15550100131": ("Completed", "notInterested"),
    "+15550100138": ("Completed", "qualified"),  # pauses while thinking
    "+15550100134": ("Completed", "voicemail"),
    "+15550100135": ("Completed", "incomplete"),  # hangs up in mid-sentence
    "+15550100136": ("Completed", "qualified"),  # interrupts
    "+15550100132": ("Completed", "busy"),
    "+15550100137": ("Completed", "notQualified"),  # presses keys
    "+15550100139": ("Completed", "qualified"),  # on a bad line
    "+15550100133": ("Completed", "noAnswer"),
    REFUSED: ("Failed", "failed"),
}
TALKS = 8
SLOTS = 6
FINAL = {"Completed", "Failed", "Canceled"}
STREAMS = "calls-media-stream-minutes"
QUESTIONS = ("interested", "budget", "timeline", "callback")


@pytest.mark.timeout(400)
def test_ten_people_of_all_kinds_at_once(world: World) -> None:
    campaign = world.campaign(
        list(ENDS),
        without_consent=[WITHOUT_CONSENT],
        worker={
            "slotsPerWorker": SLOTS,
            "maxWorkers": 1,
            "resources": {"limits": {"memory": "4Gi", "nvidia.com/gpu": 1}},
        },
        pacing={"maxConcurrent": 10},
    )
    streamed_before = _streamed(world)
    agent = campaign["spec"]["agent"]
    agent["questions"] = [question for question in agent["questions"] if question["name"] in QUESTIONS]
    world.apply(world.budget("5.00"), campaign)
    world.until(lambda: _all_over(world), "every call's end", 300)
    with contextlib.suppress(TimeoutError):
        world.until(lambda: _all_stored(world), "what was said in each", 20)
    ends = _ends(world)
    assert ends == ENDS, _said(world, ends)
    assert world.states()[-1] == "NoConsent"
    _check_dials(world)
    _check_books(world, streamed_before)
    assert _most_at_once(world) >= 4


def _all_over(world: World) -> bool:
    return all(state in FINAL for state, _ in _ends(world).values())


def _all_stored(world: World) -> bool:
    """The worker has stored what was said in every talk: the disposition of one that only ended is the carrier's."""
    return _all_over(world) and all(disposition != "answered" for _, disposition in _ends(world).values())


def _ends(world: World) -> dict[str, tuple[str, str]]:
    """How each person's session stands. The sessions are in the campaign's order; they hold no numbers."""
    found = [item.get("status", {}) for item in world.sessions()] or [{}] * len(ENDS)
    return {
        phone: (status.get("state", ""), (status.get("result") or {}).get("disposition", ""))
        for phone, status in zip(ENDS, found, strict=False)
    }


def _said(world: World, ends: dict[str, tuple[str, str]]) -> str:
    """The talks that did not end as they should, and what the pods complain of, for whoever reads the failure."""
    wrong = [phone for phone, end in ends.items() if end != ENDS[phone]]
    rows = world.rows(
        "SELECT k.id, k.namespace, k.phone, k.name, k.key_version, k.wrapped_key, t.message_type, t.content, t.metadata"
        " FROM conversations t JOIN calls c ON c.id = t.call_id JOIN contacts k ON k.id = c.contact_id"
        " WHERE k.namespace = %(namespace)s ORDER BY k.id, t.seq"
    )
    for row in rows:
        person = world.installation.subjects.open(row)
        row |= {"phone": person.phone, "content": person.key.decrypt(SAID, bytes(row["content"]))}
    said = [
        f"{row['phone']} {row['message_type']}: {row['content']} {row['metadata'] or ''}"
        for row in rows
        if row["phone"] in wrong
    ]
    return "\n".join([*said, *world.complaints()])


def _check_dials(world: World) -> None:
    """One attempt for each, whatever became of it, and one call at the carrier: but for those it would not take."""
    attempts = [item for item in world.attempts() if item["state"] != "revoked"]
    assert len(attempts) == len({item["contact_id"] for item in attempts}) == len(ENDS)
    calls = {phone: len(world.carrier_calls(phone)) for phone in [*ENDS, WITHOUT_CONSENT]}
    assert calls == {phone: phone not in {REFUSED, WITHOUT_CONSENT} for phone in calls}


def _check_books(world: World, streamed_before: Decimal) -> None:
    """Nothing is held any more, and what was spent is what the carrier billed."""
    balance = world.budget_balance()
    lines = world.rows(
        "SELECT a.call_sid, a.duration_s, l.meter, l.amount_micros FROM cost_lines l"
        " JOIN dial_attempts a ON a.id = l.attempt_id WHERE a.namespace = %(namespace)s"
    )
    assert (balance["held_micros"], balance["spent_micros"]) == (0, sum(line["amount_micros"] for line in lines))
    voice = {line["call_sid"]: line["amount_micros"] for line in lines if line["meter"] == "carrier_voice_minutes"}
    assert len(voice) == TALKS
    billed = {sid: -int(Decimal(price) * MICROS_PER_UNIT) for sid, price in _prices(world).items()}
    assert voice == {sid: micros for sid, micros in billed.items() if micros}
    # A stream begins a moment after its call: one that is just over a minute is billed a minute less than the call.
    streams = [line for line in lines if line["meter"] == "carrier_media_stream_minutes"]
    just_over = sum(line["duration_s"] % 60 in (1, 2, 3) for line in streams)
    more = Decimal(sum(line["amount_micros"] for line in streams)) / MICROS_PER_UNIT - (
        _streamed(world) - streamed_before
    )
    assert 0 <= more <= just_over * Decimal("0.004")


def _prices(world: World) -> dict[str, str]:
    """The carrier's price of each call; it comes a while after the call's end."""

    def known() -> dict[str, str]:
        calls = [call for phone in ENDS for call in world.carrier_calls(phone)]
        found = {call["sid"]: call["price"] for call in calls}
        return found if all(found.values()) else {}

    prices: dict[str, str] = world.until(known, "the carrier's prices", 30)
    return prices


def _streamed(world: World) -> Decimal:
    """What the carrier has billed for media streams, in all."""
    path = f"/2010-04-01/Accounts/{world.installation.account_sid}/Usage/Records.json"
    records = world.installation.simulator_get(path)["usage_records"]
    return sum((Decimal(item["price"]) for item in records if item["category"] == STREAMS), Decimal(0))


def _most_at_once(world: World) -> int:
    """How many people were on the line at the same time, at most."""
    spans = [(item["answered_at"], item["ended_at"]) for item in world.attempts() if item["answered_at"]]
    overlaps = [[begin <= moment < end for begin, end in spans].count(True) for moment, _ in spans]
    return max(overlaps)
