"""Why nothing is held in an account, and what lets it go on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from callfleet_core.ledger import Balance


def why_stopped(account: Balance) -> str:
    """What a session says that waits for it; nothing where the account is not stopped."""
    whose = "" if account.kind == "Installation" else f"{account.kind} {account.name}"
    if account.overrun:
        return f"the {whose or f'account {account.key}'} was overrun: {_remedy(whose)}"
    return f"the {whose} is suspended" if account.suspended else ""


def overrun_told(kind: str, accounts: Sequence[Balance]) -> tuple[bool, str, str]:
    """The condition Overrun of an object with these accounts: whether it holds, the reason and the message."""
    overrun = [account for account in accounts if account.overrun]
    meters = sorted({meter for account in overrun for meter in account.overrun_meters})
    if meters:
        return True, "AboveCap", f"beyond what was held for: {', '.join(meters)}; {_remedy(kind)}"
    if overrun:
        return True, "AboveHold", f"a call cost more than was held for it; {_remedy(kind)}"
    return False, "WithinHolds", ""


def _remedy(whose: str) -> str:
    changed = f"change the {whose} or " if whose else ""
    return f"correct the price list, then {changed}run `callfleet ledger overruns clear`"
