"""What people change and what goes wrong in a day, at instants that the seed draws."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tests.chaos.model.facts import Place
from tests.simulation.books import person_of
from tests.simulation.scenario import DAY_S

from callfleet_core.money import format_micros, parse_micros

if TYPE_CHECKING:
    from tests.simulation.world import World

MOST_BEHIND_S: Final = 20.0
# So many of the faults come while people are called, which may be an hour of the day.
AMID_CALLS: Final = 0.6
_WINDOWS: Final = frozenset({"daily", "monthly", "total"})


class Meddler:
    """Sows the day's faults."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = world.scenario.chances.of("meddling")
        self._is_calm = False
        # By how many were dialled before.
        self._after_dials: dict[int, list[Callable[[], None]]] = {}

    def sow(self) -> None:
        """Every fault gets its instant; most of them in the hours in which somebody is called."""
        faults, people = self._world.scenario.faults, len(self._world.scenario.people)
        kinds: tuple[tuple[int, Callable[[], None]], ...] = (
            (faults.restarts, self._restart), (faults.rivals, self._rival), (faults.lost_pods, self._lose_pod),
            (faults.outages, self._outage), (faults.stale_views, self._fall_behind), (faults.opt_outs, self._opt_out),
            (faults.cancels, self._cancel), (faults.limits, self._change_limits), (faults.suspensions, self._suspend),
            (faults.deletions, self._delete), (faults.hurries, self._evict), (faults.models, self._change_model),
            (faults.windows, self._change_window),
        )  # fmt: skip
        for count, act in kinds:
            for _ in range(count):
                if self._dice.random() < AMID_CALLS:
                    self._after_dials.setdefault(self._dice.randrange(1, people), []).append(act)
                else:
                    self._world.loop.call_later(self._dice.uniform(60, DAY_S - 600), self._do, act)
        self._world.referee.on_dial = self._dialled

    def _dialled(self, count: int) -> None:
        """Somebody was dialled, the day's so manieth."""
        for act in self._after_dials.pop(count, ()):
            self._world.loop.call_later(self._dice.uniform(0, 10), self._do, act)

    def _do(self, act: Callable[[], None]) -> None:
        if not self._is_calm:
            self._world.referee.note(self._world.loop.now(), "meddling", act.__name__)
            act()

    def calm(self) -> None:
        """Nothing goes wrong any more, and nobody is called."""
        self._is_calm = True
        self._world.exchange.is_away = False
        self._world.servers.view_delay_s = 0
        for name in self._campaigns():
            self._patch("Campaign", name, {"suspend": True})
            self._world.referee.wishes.stopped.setdefault(name, self._world.loop.now())

    def _campaigns(self) -> list[str]:
        bodies = self._world.cluster.bodies["Campaign"]
        return [name for name, body in bodies.items() if "deletionTimestamp" not in body["metadata"]]

    def _patch(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        if self._world.cluster.find(kind, name) is not None:
            self._world.cluster.patch(kind, name, {"spec": spec}, spec=True)

    def _restart(self) -> None:
        """The operator is killed; the next one comes."""
        for operator in self._world.operators:
            operator.kill()
        self._world.patrol.disturb(120)
        self._world.loop.call_later(self._dice.uniform(0.5, 40), self._world.lead_alone)

    def _rival(self) -> None:
        """Another one takes the lead, and the first does not know it yet."""
        self._world.lead()

    def _lose_pod(self) -> None:
        workers = [each for each in self._world.fleet.workers.values() if not each.is_lost]
        if workers:
            self._world.fleet.lose(self._dice.choice(workers).uid)

    def _evict(self) -> None:
        """Somebody deletes a pod, marked or not: it lets its calls end."""
        workers = [each for each in self._world.fleet.workers.values() if not each.is_ending and not each.is_lost]
        if workers:
            self._world.cluster.delete("Pod", self._dice.choice(workers).name)

    def _outage(self) -> None:
        """The carrier does not answer for some minutes."""
        lasts_s = self._dice.uniform(60, 900)
        self._world.exchange.is_away = True
        self._world.patrol.disturb(lasts_s + 3_600)
        self._world.loop.call_later(lasts_s, self._back)

    def _back(self) -> None:
        self._world.exchange.is_away = False

    def _fall_behind(self) -> None:
        """Views of the cluster come late for a while."""
        servers, wishes = self._world.servers, self._world.referee.wishes
        behind_s, lasts_s = self._dice.uniform(1, MOST_BEHIND_S), self._dice.uniform(30, 300)
        servers.view_delay_s = behind_s
        wishes.behind = max(wishes.behind, timedelta(seconds=MOST_BEHIND_S))
        self._world.loop.call_later(lasts_s, self._catch_up)

    def _catch_up(self) -> None:
        self._world.servers.view_delay_s = 0

    def _opt_out(self) -> None:
        person = self._dice.randrange(len(self._world.scenario.people))
        self._world.books.consent(person, False)
        self._world.referee.wishes.opted_out.setdefault(person, self._world.loop.now())

    def _cancel(self) -> None:
        sessions = list(self._world.cluster.bodies["CallSession"].values())
        if not sessions:
            return
        body = self._dice.choice(sessions)
        spec = body["spec"]
        place = Place(spec["campaign"], spec["runID"], person_of(UUID(spec["contactID"])))
        self._patch("CallSession", body["metadata"]["name"], {"cancel": True})
        self._world.referee.wishes.canceled.setdefault(place, self._world.loop.now())

    def _limited(self) -> tuple[str, str] | None:
        """A Campaign or a Budget, by kind and name."""
        named = [(kind, name) for kind in ("Campaign", "Budget") for name in self._world.cluster.bodies[kind]]
        return self._dice.choice(named) if named else None

    def _change_limits(self) -> None:
        """Somebody raises or lowers all limits of a Campaign or a Budget."""
        if (named := self._limited()) is None:
            return
        kind, name = named
        body, factor = self._world.cluster.bodies[kind][name], self._dice.choice((0.5, 0.8, 1.5, 3.0))
        old: dict[str, str] = body["spec"]["limits"]
        new = {
            key: value if key == "perCall" else format_micros(int(parse_micros(value) * factor))
            for key, value in old.items()
        }
        self._limit(kind, name, new)

    def _limit(self, kind: str, name: str, limits: dict[str, str]) -> None:
        left_out = dict.fromkeys(_WINDOWS - limits.keys())  # a merge patch keeps what it does not name
        self._patch(kind, name, {"limits": {**limits, **left_out}})
        self._world.referee.wishes.limits[f"{kind}/{name}"].append((self._world.loop.now(), limits))

    def _change_window(self) -> None:
        """Somebody limits a window that had no limit, somewhat above what it has cost, or lifts one for a while."""
        if (named := self._limited()) is None:
            return
        kind, name = named
        window = self._dice.choice(sorted(_WINDOWS))
        before: dict[str, str] = self._world.cluster.bodies[kind][name]["spec"]["limits"]
        others = {key: value for key, value in before.items() if key != window}
        if window in before and (kind == "Campaign" or others.keys() & _WINDOWS):
            self._limit(kind, name, others)
            self._world.loop.call_later(self._dice.uniform(60, 3_600), self._put_back, kind, name, window)
        elif window not in before:
            self._put_back(kind, name, window)

    def _put_back(self, kind: str, name: str, window: str) -> None:
        body = self._world.cluster.find(kind, name)
        if self._is_calm or body is None or window in body["spec"]["limits"]:
            return
        cost = self._world.referee.cost(f"{kind}/{name}", window, self._world.loop.now())
        limit = format_micros(cost + self._dice.randrange(0, 2_000_000, 10_000))
        self._limit(kind, name, {**body["spec"]["limits"], window: limit})

    def _suspend(self) -> None:
        if names := self._campaigns():
            name = self._dice.choice(names)
            self._patch("Campaign", name, {"suspend": True})
            self._world.referee.wishes.stopped.setdefault(name, self._world.loop.now())
            self._world.loop.call_later(self._dice.uniform(30, 3_600), self._resume, name)

    def _resume(self, name: str) -> None:
        body = self._world.cluster.find("Campaign", name)
        if not self._is_calm and body is not None and "deletionTimestamp" not in body["metadata"]:
            # Before the patch: from now on it may call.
            self._world.referee.wishes.stopped.pop(name, None)
            self._patch("Campaign", name, {"suspend": False})

    def _delete(self) -> None:
        if names := self._campaigns():
            name = self._dice.choice(names)
            self._world.referee.wishes.stopped.setdefault(name, self._world.loop.now())
            self._world.cluster.delete("Campaign", name)

    def _change_model(self) -> None:
        if names := self._campaigns():
            model = {"agent": {"llm": {"model": "llama3.2:3b"}}}
            self._patch("Campaign", self._dice.choice(names), model)
