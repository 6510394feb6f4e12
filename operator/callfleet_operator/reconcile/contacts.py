"""Where a Campaign's contacts come from: what it states is stored, the list that it names is followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from callfleet_core.api.contacts import InlineContact, KeyRef
from callfleet_core.contactlist import ContactListError, parse_contacts
from callfleet_core.contacts import ConsentIn, ContactIn
from callfleet_core.errors import PhoneError
from callfleet_core.phone import normalise
from callfleet_core.runs import ListUse, Run
from callfleet_core.windows import TimeZoneError, person_zone
from callfleet_operator.context import Context
from callfleet_operator.objects import Campaign, Key
from callfleet_operator.together import each

# Files are looked at again and again: ConfigMaps and Secrets are not watched.
EVERY_S = 5.0
# Lists that campaigns name are asked for their versions this often.
LISTS_EVERY_S = 2.0


async def load(context: Context, campaign: Campaign) -> None:
    """Stores what the campaign states, once for each generation and version of its file, whole or not at all; follows
    the list that it names. Raises ContactListError: what was stored before stays.
    """
    run = run_of(campaign)
    if campaign.spec.contacts.list_ref is not None:
        await context.runs.take_list(run, campaign.spec.contacts.list_ref.name)
        return
    known = context.loaded_contacts.get(campaign.meta.uid)
    if known is not None and known[0] == campaign.meta.generation:
        return
    contacts, version = await _contacts(context, campaign)
    await context.runs.load(run, contacts)
    context.loaded_contacts[campaign.meta.uid] = campaign.meta.generation, version


def run_of(campaign: Campaign) -> Run:
    """The campaign's current run."""
    return Run(campaign.meta.namespace, campaign.meta.name, campaign.spec.run_id)


async def follow_lists(context: Context) -> None:
    """Looks at campaigns whose list was imported again, or deleted: one query, however many they are."""
    uses = [
        ListUse(run_of(item), item.spec.contacts.list_ref.name)
        for item in context.store.campaigns()
        if item.spec.contacts.list_ref is not None and not item.meta.deleted
    ]
    for run in sorted(await context.runs.outdated(uses)):
        context.queue.add(Key("Campaign", run.namespace, run.campaign))


async def follow_files(context: Context) -> None:
    """Looks whether files of contacts were changed: who left one is not called, nor on a consent that was withdrawn."""
    campaigns = {item.meta.uid: item for item in context.store.campaigns() if not item.meta.deleted}
    context.loaded_contacts = {uid: known for uid, known in context.loaded_contacts.items() if uid in campaigns}

    async def look(uid: str) -> None:
        campaign, (generation, version), found = campaigns[uid], context.loaded_contacts[uid], _file(campaigns[uid])
        if found is None or generation != campaign.meta.generation:
            return
        if await context.kube.file_version(found.kind, campaign.meta.namespace, found.ref.name) != version:
            context.loaded_contacts.pop(uid, None)
            context.queue.add(Key("Campaign", campaign.meta.namespace, campaign.meta.name))

    await each([uid for uid in context.loaded_contacts if _file(campaigns[uid]) is not None], look)


class _File(NamedTuple):
    """A key of a ConfigMap or Secret."""

    kind: str
    ref: KeyRef


def _file(campaign: Campaign) -> _File | None:
    source = campaign.spec.contacts
    if source.secret_ref is not None:
        return _File("Secret", source.secret_ref)
    return None if source.config_map_ref is None else _File("ConfigMap", source.config_map_ref)


async def _contacts(context: Context, campaign: Campaign) -> tuple[list[ContactIn], str | None]:
    """What the campaign states, and the version of the file in which it does."""
    source, namespace = campaign.spec.contacts, campaign.meta.namespace
    if source.inline is not None:
        return _inline(source.inline), None
    file = _file(campaign)
    if file is None:
        raise ContactListError("the campaign names no source of contacts")  # the API server refuses such a one
    kind, ref = file
    found = await context.kube.read_file(kind, namespace, ref.name, ref.key)
    if found is None:
        raise ContactListError(f"{kind} {ref.name} with the key {ref.key} is not there: create it in this namespace")
    text, version = found
    return parse_contacts(text), version


def _inline(items: Sequence[InlineContact]) -> list[ContactIn]:
    """The inline contacts, each number once. Raises ContactListError naming the entries that cannot be dialled."""
    contacts: dict[str, ContactIn] = {}
    for position, item in enumerate(items, start=1):
        try:
            number = normalise(item.phone)
            zone = None if item.time_zone is None else person_zone(item.time_zone)
        except (PhoneError, TimeZoneError) as error:
            raise ContactListError(f"contact {position}: {error}") from error
        if number in contacts:
            raise ContactListError(f"contact {position} has the same number as an earlier one: keep one of them")
        given = item.consent
        consent = ConsentIn(given.kind, given.source, given.time) if given else None
        contacts[number] = ContactIn(number, item.name, consent, zone)
    return list(contacts.values())
