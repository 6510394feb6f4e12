"""What the watches have seen: the reconcilers' view of the cluster, replaced by every audit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from pydantic import ValidationError

from callfleet_operator.objects import Budget, Campaign, Key, Pod, Session

Object = Campaign | Budget | Session | Pod
KINDS: Mapping[str, type[Object]] = {"Campaign": Campaign, "CallSession": Session, "Budget": Budget, "Pod": Pod}

_log = structlog.get_logger(__name__)


class Store:
    """Objects by key. An older resourceVersion never replaces a newer one (they grow within one server)."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._gone: dict[str, int] = {}

    def apply(self, kind: str, body: Mapping[str, Any], *, deleted: bool = False) -> Key | None:
        """Takes one event in; answers the key, or None when it was stale or unreadable."""
        meta = body["metadata"]
        key = Key(kind, meta.get("namespace", ""), meta["name"])
        version = int(meta["resourceVersion"])
        if deleted:
            self._remove(key, meta["uid"], version)
            return key
        known = self._objects.get(key)
        if version <= self._gone.get(meta["uid"], 0) or (
            known is not None and int(known.meta.resource_version) > version
        ):
            return None
        try:
            self._objects[key] = KINDS[kind].of(dict(body))
        except ValidationError as error:
            # Only an object stored under an older schema gets here; the API server refuses it now.
            _log.error("object does not fit its schema", key=str(key), problems=error.error_count())
            return None
        return key

    def replace(self, kind: str, bodies: Iterable[Mapping[str, Any]], listed_version: int) -> set[Key]:
        """Takes a whole list in, as of `listed_version`; answers the keys that changed, vanished ones included."""
        changed, seen = set(), set()
        for body in bodies:
            meta = body["metadata"]
            key = Key(kind, meta.get("namespace", ""), meta["name"])
            seen.add(key)
            known = self._objects.get(key)
            if known is None or known.meta.resource_version != meta["resourceVersion"]:
                self.apply(kind, body)
                changed.add(key)
        for key, known in list(self._objects.items()):
            if key.kind == kind and key not in seen and int(known.meta.resource_version) <= listed_version:
                self._remove(key, known.meta.uid, listed_version)
                changed.add(key)
        return changed

    def _remove(self, key: Key, uid: str, version: int) -> None:
        known = self._objects.get(key)
        if known is not None and known.meta.uid == uid:
            del self._objects[key]
        self._gone[uid] = version
        if len(self._gone) > 10_000:  # remembered only against late events of the last objects to go
            self._gone.pop(next(iter(self._gone)))

    def all_keys(self) -> list[Key]:
        """Of everything that there is."""
        return list(self._objects)

    def campaign(self, namespace: str, name: str) -> Campaign | None:
        """A Campaign, if seen."""
        found = self._objects.get(Key("Campaign", namespace, name))
        return found if isinstance(found, Campaign) else None

    def session(self, namespace: str, name: str) -> Session | None:
        """A CallSession, if seen."""
        found = self._objects.get(Key("CallSession", namespace, name))
        return found if isinstance(found, Session) else None

    def names_attempt(self, namespace: str, session_name: str, attempt_id: str) -> bool:
        """True when the session is bound by this attempt, as far as seen."""
        found = self.session(namespace, session_name)
        return found is not None and (found.status.get("attempt") or {}).get("id") == attempt_id

    def budget(self, namespace: str, name: str) -> Budget | None:
        """A Budget, if seen."""
        found = self._objects.get(Key("Budget", namespace, name))
        return found if isinstance(found, Budget) else None

    def campaigns(self) -> list[Campaign]:
        """All Campaigns."""
        return [item for item in self._objects.values() if isinstance(item, Campaign)]

    def budgets(self) -> list[Budget]:
        """All Budgets."""
        return [item for item in self._objects.values() if isinstance(item, Budget)]

    def sessions(self, namespace: str | None = None, campaign: str | None = None) -> list[Session]:
        """All CallSessions, or those of a campaign."""
        return [
            item
            for item in self._objects.values()
            if isinstance(item, Session)
            and (namespace is None or item.meta.namespace == namespace)
            and (campaign is None or item.spec.campaign == campaign)
        ]

    def pod(self, namespace: str, name: str) -> Pod | None:
        """A worker pod, if seen."""
        found = self._objects.get(Key("Pod", namespace, name))
        return found if isinstance(found, Pod) else None

    def pods(self, namespace: str | None = None, pool: str | None = None) -> list[Pod]:
        """All worker pods, or those of a pool."""
        return [
            item
            for item in self._objects.values()
            if isinstance(item, Pod)
            and (namespace is None or item.meta.namespace == namespace)
            and (pool is None or item.pool == pool)
        ]
