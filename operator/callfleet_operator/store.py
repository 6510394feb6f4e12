"""What the watches have seen: the reconcilers' view of the cluster, replaced by every audit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import structlog
from pydantic import ValidationError

from callfleet_operator.objects import (
    KINDS,
    Budget,
    Campaign,
    Key,
    Meta,
    Object,
    Pod,
    Session,
    Unreadable,
    problem_of,
)

_log = structlog.get_logger(__name__)


class Listing:
    """A whole list of a kind, taken in page by page: what it does not hold is gone."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store, self._kind = store, kind
        self._seen: set[Key] = set()
        self._version = 0
        self._newest_before = store.newest(kind)

    def take(self, bodies: Iterable[Mapping[str, Any]], listed_version: int) -> set[Key]:
        """Takes a page in, as of `listed_version`; answers the keys that changed.

        A list is the server's present. One that is older than what was seen before it began is of a server that was
        restored from a backup: what was seen is no more. Of what was known when it was listed (`knows`) there may be
        metadata only: if it is not known any more, something newer has come meanwhile.
        """
        changed = set()
        self._version = listed_version
        if self.is_of_the_past(listed_version):
            changed.update(self._store.forget(self._kind))
            self._newest_before = 0
        for body in bodies:
            meta = body["metadata"]
            key = Key(self._kind, meta.get("namespace", ""), meta["name"])
            self._seen.add(key)
            known = self._store.meta(key)
            if (known is None or known.resource_version != meta["resourceVersion"]) and body.keys() != {"metadata"}:
                self._store.apply(self._kind, body, listed_version=listed_version)
                changed.add(key)
        return changed

    def knows(self, meta: Mapping[str, Any], listed_version: int) -> bool:
        """Whether a page of this version shows an object as it is known."""
        known = self._store.meta(Key(self._kind, meta.get("namespace", ""), meta["name"]))
        return (
            known is not None
            and not self.is_of_the_past(listed_version)
            and (known.uid, known.resource_version) == (meta["uid"], meta["resourceVersion"])
        )

    def is_of_the_past(self, listed_version: int) -> bool:
        """Whether a first page of this version is older than what was seen before it was asked for."""
        return listed_version < self._newest_before

    def end(self) -> set[Key]:
        """After the last page: answers the keys that have vanished."""
        return self._store.drop(self._kind, self._seen, self._version)


class _ByCampaign:
    """Sessions by namespace and campaign: each campaign asks for its own, several times a second."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], dict[Key, Session]] = {}

    def put(self, key: Key, session: Session) -> None:
        self._groups.setdefault((key.namespace, session.spec.campaign), {})[key] = session

    def take_out(self, key: Key, session: Session) -> None:
        group = self._groups.get((key.namespace, session.spec.campaign), {})
        group.pop(key, None)
        if not group:
            self._groups.pop((key.namespace, session.spec.campaign), None)

    def of(self, namespace: str, campaign: str) -> list[Session]:
        return list(self._groups.get((namespace, campaign), {}).values())

    def all(self) -> list[Session]:
        return [session for group in self._groups.values() for session in group.values()]


class Store:
    """Objects by key. An event's older resourceVersion never replaces a newer one (they grow within one server)."""

    def __init__(self) -> None:
        self._campaigns: dict[Key, Campaign] = {}
        self._sessions: dict[Key, Session] = {}
        self._budgets: dict[Key, Budget] = {}
        self._pods: dict[Key, Pod] = {}
        # By kind: whoever asks for the few pods or budgets must not walk over all sessions.
        self._by_kind: Mapping[str, dict[Key, Any]] = {
            "Campaign": self._campaigns,
            "CallSession": self._sessions,
            "Budget": self._budgets,
            "Pod": self._pods,
        }
        # What is over stays for its time to live, a day unless said: whoever asks for the rest must not walk over it.
        self._of_campaigns, self._unfinished = _ByCampaign(), _ByCampaign()
        self._unreadable: dict[Key, Unreadable] = {}
        self._gone: dict[str, int] = {}
        self._newest: dict[str, int] = {}

    def apply(
        self, kind: str, body: Mapping[str, Any], *, deleted: bool = False, listed_version: int = 0
    ) -> Key | None:
        """Takes an object in, as an event or a list of that version brings it; answers its key; None: it was stale.

        What a list says goes before all that is not newer than the list. Of what does not fit its schema only that is
        kept (`unreadable`): nobody acts on an earlier version of it.
        """
        meta = body["metadata"]
        key = Key(kind, meta.get("namespace", ""), meta["name"])
        version = int(meta["resourceVersion"])
        self._newest[kind] = max(version, listed_version, self._newest.get(kind, 0))
        if deleted:
            self._remove(key, meta["uid"], version)
            return key
        known = self.meta(key)
        gone, newest = self._gone.get(meta["uid"], 0), 0 if known is None else int(known.resource_version)
        if (gone > listed_version and gone >= version) or (newest > listed_version and newest > version):
            return None
        if known is not None and known.uid == meta["uid"] and known.resource_version == meta["resourceVersion"]:
            return key  # as we wrote it
        try:
            found = KINDS[kind].of(dict(body))
        except ValidationError as error:
            # It was stored under another schema: the API server would refuse it now, or a newer operator wrote it.
            _log.error("object does not fit its schema", key=str(key), problems=error.error_count())
            self._take_out(key)
            self._unreadable[key] = Unreadable.of(body, problem_of(error))
        else:
            self._unreadable.pop(key, None)
            self._put(key, found)
        return key

    def listing(self, kind: str) -> Listing:
        """Begins to take a whole list in, page by page."""
        return Listing(self, kind)

    def meta(self, key: Key) -> Meta | None:
        """An object's metadata as last seen, whether its spec could be read or not."""
        found = self._by_kind[key.kind].get(key) or self._unreadable.get(key)
        return None if found is None else found.meta

    def unreadable(self, key: Key) -> Unreadable | None:
        """An object that does not fit its schema, if it was seen last as such."""
        return self._unreadable.get(key)

    def unreadable_budgets(self) -> list[Unreadable]:
        """Budgets that do not fit their schema."""
        return [item for key, item in self._unreadable.items() if key.kind == "Budget"]

    def newest(self, kind: str) -> int:
        """The newest resourceVersion that was seen of a kind."""
        return self._newest.get(kind, 0)

    def forget(self, kind: str) -> set[Key]:
        """Forgets a kind, and what of it is gone; answers the keys."""
        found = self._keys(kind)
        for key in found:
            self._take_out(key)
        self._gone.clear()
        self._newest.pop(kind, None)
        return found

    def drop(self, kind: str, kept: AbstractSet[Key], listed_version: int) -> set[Key]:
        """Forgets what is not among the kept ones and not newer than the list; answers the keys."""
        gone = set[Key]()
        for key in self._keys(kind) - kept:
            known = self.meta(key)
            if known is not None and int(known.resource_version) <= listed_version:
                self._remove(key, known.uid, listed_version)
                gone.add(key)
        return gone

    def _keys(self, kind: str) -> set[Key]:
        return {*self._by_kind[kind], *(key for key in self._unreadable if key.kind == kind)}

    def _remove(self, key: Key, uid: str, version: int) -> None:
        known = self.meta(key)
        if known is not None and known.uid == uid:
            self._take_out(key)
        self._gone[uid] = version
        if len(self._gone) > 10_000:  # remembered only against late events of the last objects to go
            self._gone.pop(next(iter(self._gone)))

    def _put(self, key: Key, item: Object) -> None:
        if isinstance(item, Session):
            known = self._sessions.get(key)
            if known is not None and known.spec.campaign != item.spec.campaign:
                self._take_out(key)
            self._of_campaigns.put(key, item)
            if item.is_terminal:
                self._unfinished.take_out(key, item)
            else:
                self._unfinished.put(key, item)
        self._by_kind[key.kind][key] = item

    def _take_out(self, key: Key) -> None:
        self._unreadable.pop(key, None)
        item = self._by_kind[key.kind].pop(key, None)
        if isinstance(item, Session):
            self._of_campaigns.take_out(key, item)
            self._unfinished.take_out(key, item)

    def all_keys(self) -> list[Key]:
        """Of everything that there is."""
        return [key for kind in self._by_kind for key in self._keys(kind)]

    def campaign(self, namespace: str, name: str) -> Campaign | None:
        """A Campaign, if seen."""
        return self._campaigns.get(Key("Campaign", namespace, name))

    def session(self, namespace: str, name: str) -> Session | None:
        """A CallSession, if seen."""
        return self._sessions.get(Key("CallSession", namespace, name))

    def names_attempt(self, namespace: str, session_name: str, attempt_id: str) -> bool:
        """True when the session is bound by this attempt, as far as seen."""
        found = self.session(namespace, session_name)
        return found is not None and (found.status.get("attempt") or {}).get("id") == attempt_id

    def budget(self, namespace: str, name: str) -> Budget | None:
        """A Budget, if seen."""
        return self._budgets.get(Key("Budget", namespace, name))

    def campaigns(self) -> list[Campaign]:
        """All Campaigns."""
        return list(self._campaigns.values())

    def budgets(self) -> list[Budget]:
        """All Budgets."""
        return list(self._budgets.values())

    def sessions(self, namespace: str | None = None) -> list[Session]:
        """All CallSessions, or those of a namespace."""
        return [item for item in self._sessions.values() if namespace is None or item.meta.namespace == namespace]

    def sessions_of(self, namespace: str, campaign: str) -> list[Session]:
        """A campaign's CallSessions."""
        return self._of_campaigns.of(namespace, campaign)

    def unfinished(self) -> list[Session]:
        """All CallSessions that are not over."""
        return self._unfinished.all()

    def unfinished_of(self, namespace: str, campaign: str) -> list[Session]:
        """A campaign's CallSessions that are not over."""
        return self._unfinished.of(namespace, campaign)

    def pod(self, namespace: str, name: str) -> Pod | None:
        """A worker pod, if seen."""
        return self._pods.get(Key("Pod", namespace, name))

    def pods(self, namespace: str | None = None, pool: str | None = None) -> list[Pod]:
        """All worker pods, or those of a pool."""
        return [
            item
            for item in self._pods.values()
            if (namespace is None or item.meta.namespace == namespace) and (pool is None or item.pool == pool)
        ]
