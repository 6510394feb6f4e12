"""Lets a campaign run until nothing more can happen, tells what happens, and sums up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import yaml
from rich.console import Console

from callfleet.demo.books import read_books
from callfleet.demo.scene import Scene, make_scene, what_counts
from callfleet.demo.setup import DemoOptions, everything_up
from callfleet.demo.show import Onlooker, showing
from callfleet.demo.summary import is_over, read_facts, summarise
from callfleet.installation import Installation, InstallError

NAMESPACE = "demo"
# Longer than any wait of the demo: what has not moved for so long never will.
STUCK_AFTER_S = 15 * 60
POLL_S = 1.0
OVER_FOR_S = 6.0
CHECK_EVERY_S = 5.0
MOST_MISSES = 5
# The carrier's own categories for what connects a call (Usage Records).
USAGE_PATH = "/2010-04-01/Accounts/{account}/Usage/Records.json"


@dataclass(frozen=True)
class Outcome:
    """How a demo went: the summary that `--json` prints, and the last scene."""

    summary: dict[str, Any]
    scene: Scene


@contextmanager
def run_demo(
    options: DemoOptions,
    console: Console,
    started_at: datetime,
    *,
    others: Sequence[Onlooker] = (),
    on_cleanup: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Yields the outcome while everything is still up, so that the caller may keep it.

    `others` are told each scene beside the one who shows it; `on_cleanup` is called before anything is ended.
    """
    check_input(options)
    with everything_up(options, console, on_cleanup) as installation:
        ensure_namespace(installation, NAMESPACE)
        console.print(f"kubectl apply -n {NAMESPACE} -f {options.campaign}", highlight=False)
        installation.kubectl("apply", "-n", NAMESPACE, "-f", str(options.campaign))
        with showing(console) as shown:
            sessions, scene = watch(installation, (shown, *others))
        facts = read_facts(installation.databases.owner, NAMESPACE, installation.subjects)
        yield Outcome(summarise(facts, sessions, carrier_bill(installation), started_at), scene)


def check_input(options: DemoOptions) -> None:
    """Refuses what cannot work before anything is built. Raises InstallError."""
    if options.kubeconfig is not None or options.context is not None:
        raise InstallError(
            "the demo cannot bring its images and its servers into a cluster of yours: leave --kubeconfig and --context"
            " away for a cluster of its own, or install the chart there (README, Install)"
        )
    for path in (options.campaign, options.people):
        if not path.is_file():
            raise InstallError(f"{path} is not a file: give the path of a YAML file")
    try:
        documents = [item for item in yaml.safe_load_all(options.campaign.read_text()) if item]
    except yaml.YAMLError as error:
        raise InstallError(f"{options.campaign} is not YAML: {error}") from error
    if not any(isinstance(item, dict) and item.get("kind") == "Campaign" for item in documents):
        raise InstallError(f"{options.campaign} holds no Campaign: see docs/samples/demo-campaign.yaml")


def ensure_namespace(installation: Installation, name: str) -> None:
    """Creates a namespace unless it exists."""
    body = yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    installation.kubectl("apply", "-f", "-", stdin=body)


def watch(
    installation: Installation, onlookers: Sequence[Onlooker], stuck_after_s: float = STUCK_AFTER_S
) -> tuple[list[dict[str, Any]], Scene]:
    """Tells what happens until every session is terminal or waits for what only a person can change.

    Answers the last look. Raises InstallError when a part is dead, or when nothing has happened for `stuck_after_s`.
    """
    began_s = moved_s = time.monotonic()
    last: object = None
    over_since_s: float | None = None
    checked_s, misses = began_s, 0
    while (now_s := time.monotonic()) < moved_s + stuck_after_s:
        try:
            sessions = installation.objects("callsessions", NAMESPACE)
            scene = make_scene(
                now_s - began_s, sessions, read_books(installation.databases.owner, NAMESPACE, installation.subjects)
            )
        except (InstallError, psycopg.OperationalError) as error:
            misses, checked_s = misses + 1, 0.0
            if misses > MOST_MISSES:
                raise InstallError(f"the campaign could not be looked at {misses} times in a row: {error}") from error
        else:
            misses = 0
            if what_counts(scene) != last:
                last, moved_s = what_counts(scene), now_s
            for onlooker in onlookers:
                onlooker.tell(scene)
            # Twice over: the last settlement may just have returned money that admits one more.
            if not is_over(sessions):
                over_since_s = None
            elif over_since_s is None:
                over_since_s = now_s
            elif now_s - over_since_s > OVER_FOR_S:
                return sessions, scene
        if now_s - checked_s >= CHECK_EVERY_S:
            check_parts(installation)
            checked_s = now_s
        time.sleep(POLL_S)
    raise InstallError(f"nothing has happened for {stuck_after_s:.0f} s; logs: {installation.log_dir}")


def check_parts(installation: Installation) -> None:
    """Raises InstallError or ClusterError, naming what is dead and its log."""
    installation.cluster.check()
    complaints = installation.dead_components(NAMESPACE)
    if complaints:
        raise InstallError("a component is dead:\n" + "\n".join(f"  {line}" for line in complaints))


def carrier_bill(installation: Installation) -> Decimal:
    """What the carrier says it has billed for calls and media streams, by its own Usage Records."""
    records = installation.simulator_get(USAGE_PATH.format(account=installation.account_sid))["usage_records"]
    wanted = {"calls-outbound", "calls-media-stream-minutes"}
    return sum((Decimal(item["price"]) for item in records if item["category"] in wanted), Decimal(0))


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)
