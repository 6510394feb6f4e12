"""What a person answers: the rule that fits what they heard, in words of the file. Pure, drawn from a seed."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

from rapidfuzz import fuzz, utils

from callfleet_simulator.people import MACHINES, Person, Rule

# Whisper errs in a letter or two of a phrase; below this, other phrases begin to fit.
FITS = 84.0
LATEST_SENTENCES = 4
_SENTENCE = re.compile(r"[^.?!]+[.?!]*")


@dataclass(frozen=True)
class Reply:
    """What to say, whether to hang up after it, and the index of the rule that it answers."""

    text: str
    ends: bool = False
    rule: int | None = None
    lost: bool = False
    keys: str = ""
    cut_short: bool = False


class Mind:
    """One person during one call: remembers what they were asked already."""

    def __init__(self, person: Person, rules: list[Rule], draw: random.Random) -> None:
        self._person = person
        self._rules = rules
        self._draw = draw
        self._asked: Counter[int] = Counter()
        self._lost = 0
        self._last: str | None = None

    def reply(self, heard: str) -> Reply | None:
        """The answer to what was heard, or None when nothing in the script fits it."""
        index = best_rule(self._rules, heard)
        if index is None:
            return None
        rule, asked = self._rules[index], self._asked[index]
        if asked == 0 and rule.asks_back:
            return Reply(self._one_of(rule.asks_back), rule=index)
        if asked - bool(rule.asks_back) >= self._person.max_repeats:
            return Reply("I already answered that. Goodbye.", ends=True, rule=index)
        ends = rule.ends or rule.cut_short
        return Reply(self._one_of(rule.says), ends, index, keys=rule.keys or "", cut_short=rule.cut_short)

    def confused(self) -> Reply:
        """What to say when nothing fitted and nothing more came; after a few times they give up."""
        if self._lost >= self._person.max_repeats:
            return Reply("Sorry, I have to go. Goodbye.", ends=True, lost=True)
        return Reply(self._one_of(self._person.fallback), lost=True)

    def said(self, reply: Reply) -> None:
        """The reply was really spoken (a thought may be dropped when the other side goes on talking)."""
        self._last = reply.text
        self._lost = self._lost + 1 if reply.lost else 0
        if reply.rule is not None:
            self._asked[reply.rule] += 1

    def _one_of(self, lines: list[str]) -> str:
        """One of the lines, not the one said last where there is a choice."""
        choice = [line for line in lines if line != self._last] or lines or [""]
        return self._draw.choice(choice)


def spoken_lines(person: Person, rules: list[Rule]) -> list[str]:
    """Everything the person may say, in the order in which they are likely to need it."""
    lines = [] if person.greeting is None else [person.greeting]
    if person.behaviour in MACHINES:
        return lines
    for rule in rules:
        lines += [*rule.asks_back, *rule.says]
    lines += [act.says for act in person.acts if act.says is not None]
    return list(dict.fromkeys(part for line in [*lines, *person.fallback] for part in phrases(line)))


def phrases(line: str) -> list[str]:
    """A line without its pauses: `Well ... about a year.` is two phrases."""
    return [part for text in line.split("...") if (part := text.strip())]


def best_rule(rules: list[Rule], heard: str) -> int | None:
    """The index of the rule that fits best; what was said last counts before what was said earlier."""
    sentences = [text for part in _SENTENCE.findall(heard) if (text := utils.default_process(part))]
    for sentence in reversed(sentences[-LATEST_SENTENCES:]):
        scores = [_fit(rule, sentence) for rule in rules]
        best = max(range(len(rules)), key=scores.__getitem__, default=None)
        if best is not None and scores[best] > 0:
            return best
    return None


def _fit(rule: Rule, sentence: str) -> float:
    """How much of the sentence the rule's phrases explain: 0 for none; longer phrases weigh more."""
    return max((_phrase_fit(utils.default_process(phrase), sentence) for phrase in rule.hears), default=0.0)


def _phrase_fit(phrase: str, sentence: str) -> float:
    if len(phrase) > len(sentence) + 2:
        return 0.0
    score = fuzz.partial_ratio(f" {phrase} ", f" {sentence} ")
    return score * len(phrase) if score >= FITS else 0.0
