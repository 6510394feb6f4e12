"""The simulator's own endpoints, which Twilio has not: /health, its books, and faults at run time."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError

from callfleet_simulator.auth import Authenticated
from callfleet_simulator.errors import ApiError, FaultError, invalid, readable
from callfleet_simulator.faults import Fault
from callfleet_simulator.forms import read_body

router = APIRouter()
_FAULTS = TypeAdapter(list[Fault])


@router.get("/health")
async def health() -> dict[str, str]:
    """Alive."""
    return {"status": "ok"}


@router.get("/simulator/stats")
async def stats(carrier: Authenticated) -> dict[str, object]:
    """The simulator's own books: calls by status, billed micros, how punctual the frames were."""
    return carrier.stats()


@router.get("/simulator/faults")
async def list_faults(carrier: Authenticated) -> dict[str, object]:
    """The faults that are switched on, how often each struck and still may."""
    return {"faults": carrier.faults.shown()}


@router.post("/simulator/faults", status_code=201)
async def add_faults(request: Request, carrier: Authenticated) -> dict[str, object]:
    """Switches faults on: one as a JSON object, or a list of them; all or none."""
    body = (await read_body(request)).strip()
    try:
        faults = _FAULTS.validate_json(body if body.startswith(b"[") else b"[" + body + b"]")
        return {"faults": [armed.shown() for armed in carrier.faults.add_all(faults)]}
    except ValidationError as error:
        raise invalid(20001, f"these faults cannot be used:\n{readable(error)}") from error
    except FaultError as error:
        raise invalid(20001, str(error)) from error


@router.delete("/simulator/faults", status_code=204)
async def clear_faults(carrier: Authenticated) -> Response:
    """Switches all faults off."""
    carrier.faults.clear()
    return Response(status_code=204)


@router.delete("/simulator/faults/{fault_id}", status_code=204)
async def remove_fault(fault_id: int, carrier: Authenticated) -> Response:
    """Switches one fault off."""
    if not carrier.faults.remove(fault_id):
        raise ApiError(404, 20404, f"there is no fault {fault_id}")
    return Response(status_code=204)
