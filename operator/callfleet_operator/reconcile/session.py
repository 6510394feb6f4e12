"""A CallSession: what its attempt's row says, written into its status."""

from __future__ import annotations

from uuid import UUID

from callfleet_core.api.callsession import TERMINAL_STATES, SessionState
from callfleet_core.api.campaign import Attempts
from callfleet_core.money import parse_micros
from callfleet_operator.context import Context
from callfleet_operator.metrics import record_finished
from callfleet_operator.objects import Key, Session
from callfleet_operator.plan.session import plan_session

# The worker may store what was said a moment after the carrier's last word: the disposition is looked at again.
LOOK_AGAIN_S = 5.0


async def reconcile(context: Context, key: Key) -> None:
    """Repairs or finishes the session's status."""
    session = context.store.session(key.namespace, key.name)
    if session is None:
        return
    attempt = (await context.ledger.latest_attempts(key.namespace, [key.name])).get(key.name)
    campaign = context.store.campaign(key.namespace, session.spec.campaign)
    attempts = campaign.spec.attempts if campaign else Attempts()
    status = plan_session(session.status, attempt, attempts, context.now(), session.meta.generation)
    if status is None:
        return
    state = SessionState(status["state"])
    if state in TERMINAL_STATES:
        # PostgreSQL first: whatever happens to the object, this contact is done in this run.
        await context.contacts.finish(
            namespace=key.namespace,
            campaign=session.spec.campaign,
            run_id=session.spec.run_id,
            contact=UUID(session.spec.contact_id),
            state=state.value,
            disposition=status["result"]["disposition"],
        )
    body = await context.kube.write_status("CallSession", session.meta, status)
    context.store.apply("CallSession", body)
    if state in TERMINAL_STATES and not session.is_terminal:
        await _tell_end(context, session, state, status)
        context.queue.add_after(key, LOOK_AGAIN_S)
    context.queue.add(Key("Campaign", key.namespace, session.spec.campaign))
    context.queue.add(Key("Admission"))


async def _tell_end(context: Context, session: Session, state: SessionState, status: dict[str, object]) -> None:
    result = status["result"]
    assert isinstance(result, dict)  # noqa: S101  # plan_session writes it with every final state
    cost, seconds = result["cost"], result["durationSeconds"]
    record_finished(state.value, seconds, None if cost is None else parse_micros(cost))
    detail = f"{result['disposition']}, {seconds or 0} s, cost {cost or 'not settled'}"
    await context.tell("CallSession", session.meta, state.value, detail, warning=state is SessionState.FAILED)
