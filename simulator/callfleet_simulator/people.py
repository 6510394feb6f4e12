"""The people file: who answers which number, how, and what they say. See docs/simulator.md."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from callfleet_simulator.amd import AnsweredBy
from callfleet_simulator.audio import NOISE_DBM0
from callfleet_simulator.errors import REFUSALS, PeopleFileError, readable
from callfleet_simulator.faults import Fault, Number

MAX_FILE_BYTES = 1024 * 1024

Line = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Phrase = Annotated[str, StringConstraints(min_length=2, max_length=80)]
Keys = Annotated[str, StringConstraints(pattern=r"^[0-9*#A-D]{1,32}$")]
Topic = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Strict(BaseModel):
    """Base: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Behaviour(StrEnum):
    """What happens when the number is called."""

    WILLING = "willing"
    BUSY = "busy"
    NO_ANSWER = "noAnswer"
    FAILED = "failed"
    REFUSED = "refused"
    MACHINE = "machine"
    FAX = "fax"


MACHINES = frozenset({Behaviour.MACHINE, Behaviour.FAX})


class Voice(Strict):
    """How a person sounds."""

    length_scale: float = Field(default=1.05, ge=0.5, le=2.0, description="Piper's: larger speaks slower.")
    pitch: float = Field(default=1.1, ge=0.7, le=1.4, description="1.0 is the model's own pitch.")


class Act(Strict):
    """Something they do unasked, once: at a time on the line, or while the other side speaks for the nth time."""

    at_s: float | None = Field(default=None, ge=0, le=3600, description="Seconds on the line.")
    on_turn: int | None = Field(default=None, ge=1, le=1000, description="The other side's 1st, 2nd, ... utterance.")
    after_s: float = Field(default=0.5, ge=0, le=60, description="With on_turn: after its beginning.")
    says: Line | None = Field(default=None, description="Said over whatever is being said.")
    keys: Keys | None = None
    hangs_up: bool = False

    @model_validator(mode="after")
    def _one_time_and_one_deed(self) -> Self:
        if (self.at_s is None) == (self.on_turn is None):
            raise ValueError("an act needs either `at_s` or `on_turn`, and not both")
        if [self.says is not None, self.keys is not None, self.hangs_up].count(True) != 1:
            raise ValueError("an act needs one of `says`, `keys` and `hangs_up: true`")
        return self


class Rule(Strict):
    """What the person says when they hear something: one of `says`, another one when asked again."""

    topic: Topic | None = Field(default=None, description="A list of phrases under the file's `topics`.")
    hears: list[Phrase] = Field(default_factory=list, max_length=40, description="Phrases to listen for.")
    says: list[Line] = Field(default_factory=list, max_length=8, description="`...` in a line is a pause.")
    keys: Keys | None = Field(default=None, description="Keys that they press after saying it.")
    asks_back: list[Line] = Field(
        default_factory=list, max_length=4, description="Said instead of the answer when first asked."
    )
    ends: bool = Field(default=False, description="Hangs up after saying it.")
    cut_short: bool = Field(default=False, description="Hangs up in the middle of saying it.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.topic is None) == (not self.hears):
            raise ValueError("a rule needs either `topic` or `hears`, and not both")
        if not self.says and self.keys is None:
            raise ValueError("a rule needs `says`, `keys` or both")
        return self


class Person(Strict):
    """One number and who is behind it. Durations in seconds."""

    name: str = Field(min_length=1, max_length=60)
    behaviour: Behaviour = Behaviour.WILLING
    sip_code: int = Field(default=503, ge=400, le=699, description="failed: the SIP response that ends the call.")
    error_code: int = Field(default=21214, description="refused: the API's error code when it is called.")
    ring_s: float = Field(default=3.0, ge=0, le=600, description="How long it rings before they pick up.")
    answer_after_s: float = Field(default=0.6, ge=0, le=30, description="Picked up, until they say the greeting.")
    greeting: Line | None = Field(default=None, description="Said on picking up; null: waits to be spoken to.")
    beep: bool = Field(default=True, description="machine: beeps after the greeting.")
    beep_after_s: float = Field(default=0.8, ge=0, le=10, description="machine: from the greeting to the beep.")
    detected_as: AnsweredBy | None = Field(default=None, description="What machine detection takes them for.")
    voice: Voice = Voice()
    thinks_s: tuple[float, float] = Field(default=(0.6, 1.4), description="Pause before an answer: from, to.")
    hesitates_s: tuple[float, float] = Field(default=(1.0, 2.0), description="A pause within a line: from, to.")
    noise_dbm0: float = Field(default=NOISE_DBM0, ge=-80, le=-25, description="Their line's noise.")
    acts: list[Act] = Field(default_factory=list, max_length=40, description="What they do unasked.")
    patience_s: float = Field(default=12.0, ge=2, le=120, description="Silence after which they ask who is there.")
    script: list[Rule] = Field(default_factory=list, max_length=60)
    fallback: list[Line] = Field(
        default_factory=lambda: ["Sorry, could you say that again?", "I'm sorry, I didn't get that."],
        min_length=1,
        max_length=8,
        description="Said when nothing in the script fits.",
    )
    max_repeats: int = Field(default=3, ge=1, le=10, description="The same thing so often, then they hang up.")
    max_s: float = Field(default=300.0, ge=1, le=3600, description="Hangs up after so long on the line.")

    @property
    def talks(self) -> bool:
        """Whether they ever say anything."""
        if self.behaviour is Behaviour.MACHINE:
            return self.greeting is not None
        words = self.script or self.greeting or any(act.says for act in self.acts)
        return self.behaviour is Behaviour.WILLING and bool(words)

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        for name in ("thinks_s", "hesitates_s"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 30:
                raise ValueError(f"{name} must be [from, to] with 0 <= from <= to <= 30")
        if self.error_code not in REFUSALS:
            raise ValueError(f"error_code must be one of {', '.join(map(str, REFUSALS))}")
        return self


class People(Strict):
    """The whole file."""

    topics: dict[Topic, list[Phrase]] = Field(default_factory=dict, max_length=100)
    everyone: list[Rule] = Field(
        default_factory=list, max_length=20, description="Rules that each talking person has after their own."
    )
    people: dict[Number, Person] = Field(min_length=1, max_length=10_000)
    faults: list[Fault] = Field(default_factory=list, max_length=100, description="Switched on from the start.")

    @model_validator(mode="after")
    def _topics_exist(self) -> Self:
        for number, person in self.people.items():
            for rule in person.script:
                if rule.topic is not None and rule.topic not in self.topics:
                    raise ValueError(f"{number}: the topic {rule.topic!r} is not listed under `topics`")
        for rule in self.everyone:
            if rule.topic is not None and rule.topic not in self.topics:
                raise ValueError(f"everyone: the topic {rule.topic!r} is not listed under `topics`")
        return self

    def rules_of(self, person: Person) -> list[Rule]:
        """A person's own rules, then everyone's, with the topics' phrases filled in."""
        return [
            rule if rule.topic is None else rule.model_copy(update={"hears": self.topics[rule.topic]})
            for rule in [*person.script, *self.everyone]
        ]


def load_people(path: Path) -> People:
    """Reads and checks a people file. Raises PeopleFileError with the place and the remedy."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PeopleFileError(f"{path} is larger than 1 MiB: split the people over several simulators")
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise PeopleFileError(f"cannot read the people file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PeopleFileError(f"{path} is not YAML: {error}") from error
    try:
        return People.model_validate(content)
    except ValidationError as error:
        raise PeopleFileError(f"{path} cannot be used:\n{readable(error)}") from error
