"""People without models: they pick up and say nothing, press keys and hang up; machines murmur."""

from __future__ import annotations

from callfleet_simulator.calls import Call
from callfleet_simulator.far_end import FarEnd, SilentPerson
from callfleet_simulator.machine import Machine, Murmurs
from callfleet_simulator.people import MACHINES, Person
from callfleet_simulator.quiet import QuietPerson


def voiceless(call: Call, person: Person) -> FarEnd:
    """The far end of a simulator that has no speech."""
    if person.behaviour in MACHINES:
        return Machine(person, Murmurs())
    return QuietPerson(call, person) if person.acts else SilentPerson()
