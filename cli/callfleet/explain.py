"""`callfleet explain`: why a session waits, what is missing, when it is tried again, its place in the line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from callfleet_core.api import GROUP, VERSION
from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.errors import CallFleetError
from callfleet_operator.plan.campaign import waiting_by_reason
from callfleet_operator.plan.cluster import Cluster, Unread
from callfleet_operator.plan.explain import Explanation, plan_explanation
from callfleet_operator.plan.lacking import Window

PAGE = 500
TIMEOUT_S = 30
# What docs/states.md says of each, in a line.
ADVICE: Final[Mapping[str, str]] = {
    Reason.SUSPENDED: "set suspend: false on the Campaign, or on the Budget; after an overrun correct the prices, then"
    " change each Campaign and Budget that says so, or use `callfleet ledger overruns clear`",
    Reason.RETRY_SCHEDULED: "nothing to do: the last attempt reached nobody, the next is at that time",
    Reason.STOPPED: "everything is stopped: see the Campaign's summary, and `callfleet ledger recovery`",
    Reason.NO_CONSENT: "add the contact's consent to its list, if it was given",
    Reason.DO_NOT_CALL: "the person asked not to be called (`callfleet do-not-call check`), or the number is not on the"
    " installation's carrier.allowlist",
    Reason.CURRENCY_MISMATCH: "give the Campaign a Budget in its own currency",
    Reason.BUDGET_NOT_FOUND: "create the Budget, or correct budgetRefs",
    Reason.NO_PRICE: "add a rate for this destination to the price list",
    Reason.PER_CALL_LIMIT: "raise limits.perCall, or lower call.maxDurationSeconds",
    Reason.BUDGET_EXHAUSTED: "raise the limit, or wait for its next day or month; a total has none",
    Reason.OUTSIDE_CALLING_HOURS: "nothing to do where a next try is told: its hours begin then; otherwise state the"
    " contact's time zone, or change the Campaign's schedule",
    Reason.CARRIER_NOT_READY: "create or correct the Secret that carrierRef names: the Campaign says what is wrong",
    Reason.MODEL_NOT_READY: "wait for the pull, or correct agent.llm.model: the condition ModelReady says more",
    Reason.PACING: "nothing to do; pacing and the carrier account's own limits say how many calls are made",
    Reason.BUDGET_HELD: "nothing to do: the money comes back as the calls that hold it settle",
    Reason.NUMBER_BUSY: "nothing to do: it is called when the other call to the same number is over",
    Reason.NO_CAPACITY: "wait for a worker to start, or raise worker.maxWorkers or worker.slotsPerWorker",
    Reason.DIAL_OUTCOME_UNKNOWN: "look at the carrier's own records, and use `callfleet attempts resolve`",
}
# A newer operator may give a reason that is none of ours.
_UNKNOWN_REASON = "this callfleet does not know that reason: use the one of the operator's release"
_OTHER_RELEASE = "use the callfleet of the operator's release; where this is it, correct the spec"
_BEYOND = "; sessions of other namespaces may come first"


def explain(
    what: Annotated[str, typer.Argument(help="A CallSession's name, or campaign/NAME for a whole Campaign.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where it is.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    context: Annotated[str | None, typer.Option(help="The kubeconfig's context; the current one unless said.")] = None,
) -> None:
    """Show why a session waits, what is missing, when it is tried again, and who comes before it.

    Reads Campaigns, Budgets and CallSessions with your own rights; the database is not asked, no number is shown.
    """
    kind, _, name = what.rpartition("/")
    if kind not in {"", "session", "callsession", "campaign"}:
        raise CallFleetError(f"{kind} cannot be explained: give a CallSession's name, or campaign/NAME")
    cluster = _cluster(namespace, context)
    if kind == "campaign":
        answer, lines = _of_campaign(cluster, namespace, name)
    else:
        answer, lines = _of_session(cluster, namespace, name)
    typer.echo(json.dumps(answer, default=_plain, indent=2) if as_json else "\n".join(lines))


def _cluster(namespace: str, context: str | None) -> Cluster:
    """The namespace's objects. Raises CallFleetError saying what is missing."""
    try:
        connect: Any = config.new_client_from_config  # it has no types
        api = client.CustomObjectsApi(connect(context=context))
        return Cluster.of(*(_listed(api, namespace, plural) for plural in ("campaigns", "budgets", "callsessions")))
    except ConfigException as error:
        raise CallFleetError(f"no cluster to ask: {error}; set KUBECONFIG, or give --context") from error
    except ApiException as error:
        raise CallFleetError(
            f"the API server refuses ({error.status} {error.reason}): your login needs to list campaigns, budgets and"
            f" callsessions of {GROUP} in namespace {namespace}, and CallFleet must be installed"
        ) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise CallFleetError("the API server does not answer: is the kubeconfig's server right?") from error


def _listed(api: Any, namespace: str, plural: str) -> Iterator[dict[str, Any]]:
    """Every object of a kind, in pages."""
    token = ""
    while True:
        page = api.list_namespaced_custom_object(
            GROUP, VERSION, namespace, plural, limit=PAGE, _request_timeout=TIMEOUT_S,
            **({"_continue": token} if token else {}),
        )  # fmt: skip
        yield from page["items"]
        token = page["metadata"].get("continue", "")
        if not token:
            return


def _of_session(cluster: Cluster, namespace: str, name: str) -> tuple[dict[str, Any], list[str]]:
    session = next((item for item in cluster.sessions if item.meta.name == name), None)
    _refuse_unread(cluster.unread("CallSession", name))
    if session is None:
        raise CallFleetError(f"there is no CallSession {name} in namespace {namespace}: kubectl get cs -n {namespace}")
    found = plan_explanation(cluster, session, datetime.now(UTC))
    advice = ADVICE.get(found.reason, _UNKNOWN_REASON) if found.reason else None
    return {**asdict(found), "advice": advice}, list(_sentences(found, advice))


def _sentences(found: Explanation, advice: str | None) -> Iterator[str]:
    yield f"{found.session} of campaign {found.campaign}: {found.state}{f', {found.reason}' if found.reason else ''}"
    if found.message:
        yield f"  {found.message}"
    if found.shortfall is not None:
        where = f", of {' and '.join(found.short)}" if found.short else ""
        yield f"  missing: {found.shortfall} {found.currency}{where}"
    for window in found.windows:
        yield f"  {window.owner} {window.name}, {window.kind}: {_used(window, found.currency)}"
    if found.retry_at is not None:
        yield f"  next try: {found.retry_at:%Y-%m-%d %H:%M:%S} UTC"
    if found.line is not None:
        line = found.line
        yield f"  in line for {line.for_what}: place {line.place}{_BEYOND if line.beyond_namespace else ''}"
        for item in line.ahead:
            yield f"    {item.sessions} of campaign {item.campaign} (priority {item.priority}) come before it"
    if advice:
        yield f"  {advice}"
    yield from _unread_told(found.unreadable)


def _used(window: Window, currency: str) -> str:
    """What is used of a limit, where a status says it."""
    if window.spent is None:
        return f"a limit of {window.limit} {currency}; what is spent and held of it stands in no status"
    return f"{window.spent} spent, {window.held or '0.00'} held of {window.limit} {currency}"


def _refuse_unread(found: Unread | None) -> None:
    """Raises CallFleetError where what is asked about cannot be read."""
    if found is not None:
        raise CallFleetError(f"{_cannot_be_read(found)}; {_OTHER_RELEASE}")


def _unread_told(found: Sequence[Unread]) -> Iterator[str]:
    """What was left out of an explanation, and what to do about it."""
    for item in found:
        yield f"  {_cannot_be_read(item)}"
    if found:
        yield f"    what depends on it is not counted here: {_OTHER_RELEASE}"


def _cannot_be_read(found: Unread) -> str:
    more = f" (nor {found.more} more)" if found.more else ""
    return f"{found.kind} {found.name} cannot be read by this release{more}: {found.problem}"


def _of_campaign(cluster: Cluster, namespace: str, name: str) -> tuple[dict[str, Any], list[str]]:
    campaign = cluster.campaign(name)
    _refuse_unread(cluster.unread("Campaign", name))
    if campaign is None:
        raise CallFleetError(f"there is no Campaign {name} in namespace {namespace}: kubectl get camp -n {namespace}")
    spec = campaign.spec
    sessions = [item for item in cluster.sessions if item.spec.campaign == name and item.spec.run_id == spec.run_id]
    states = [item.state for item in sessions]
    waiting = [{**item, "advice": ADVICE.get(item["reason"], _UNKNOWN_REASON)} for item in waiting_by_reason(sessions)]
    unread = cluster.unread_about(name)
    calls = sum(state in {SessionState.ADMITTED, SessionState.DIALING, SessionState.IN_PROGRESS} for state in states)
    answer = {
        "namespace": namespace, "campaign": name, "priority": spec.priority, "weight": spec.weight, "calls": calls,
        "pending": states.count(SessionState.PENDING), "summary": campaign.status.get("summary"),
        "waiting": waiting, "unreadable": [asdict(item) for item in unread],
    }  # fmt: skip
    head = f"campaign {name} (priority {spec.priority}, weight {spec.weight}): {calls} calls are open"
    lines = [f"{head}, {answer['pending']} sessions wait"]
    for item in waiting:
        missing = f", at least {item['shortfall']} {spec.currency} missing" if "shortfall" in item else ""
        retry = f", the first is tried again at {item['retryAt']}" if "retryAt" in item else ""
        lines += [f"  {item['reason']}: {item['count']}{missing}{retry}", f"    {item['advice']}"]
    return answer, [*lines, *_unread_told(unread)]


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
