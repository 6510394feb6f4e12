"""People without models: they pick up and say nothing, and machines murmur."""

from __future__ import annotations

from callfleet_simulator.calls import Call
from callfleet_simulator.far_end import FarEnd, SilentPerson
from callfleet_simulator.machine import Machine, Murmurs
from callfleet_simulator.people import MACHINES, Person


def voiceless(_call: Call, person: Person) -> FarEnd:
    """The far end of a simulator that has no speech."""
    return Machine(person, Murmurs()) if person.behaviour in MACHINES else SilentPerson()
