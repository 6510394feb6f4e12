"""What the API server refuses of a campaign's questions: calls that would ask nothing, answers that could not count."""

from __future__ import annotations

from callfleet_core.api.common import rule
from callfleet_core.script import MOST_QUESTIONS

_EACH = "self.agent.questions.all(q, %s)"
# A stored Campaign that breaks one may be changed elsewhere, so that it can be suspended.
_AS_STORED = "oldSelf.hasValue() && self.agent.questions == oldSelf.value().agent.questions"
# The one of the two that comes first: two positions in a list are more than a rule may cost.
_FIRST = "self.agent.questions.filter(o, o.name == q.name || o.name == q.when.question)[0].name"
# Lists of named entries are equal in any order; a rule that goes through both would cost too much.
_IN_ORDER = " && ".join(
    f"(size(self.agent.questions) <= {i}"
    f" || self.agent.questions[{i}].name == oldSelf.value().agent.questions[{i}].name)"
    for i in range(MOST_QUESTIONS)
)
# What a parser of the worker can answer a question with.
_POSSIBLE = (
    "({of}.type != 'YesNo' || {given}.all(a, a in ['yes', 'no']))"
    " && ({of}.type != 'Choice' || !has({of}.choices) || {given}.all(a, a in {of}.choices))"
)
_AS_THERE = (
    "must hold answers that its question can have: 'yes' or 'no' of a YesNo, a Choice's choices as they are written"
)
_RULES = {
    "!has(q.when) || self.agent.questions.all(o, o.name != q.when.question"
    f" || ({_POSSIBLE.format(of='o', given='q.when.is')}))": f"when.is {_AS_THERE}",
    f"!has(q.qualify) || !has(q.qualify.is) || ({_POSSIBLE.format(of='q', given='q.qualify.is')})": (
        f"qualify.is {_AS_THERE}"
    ),
    "!has(q.qualify) || q.type in ['Number', 'Money'] || (!has(q.qualify.min) && !has(q.qualify.max))": (
        "qualify.min and qualify.max are for questions of type Number or Money: leave them out"
    ),
    "!has(q.qualify) || !has(q.qualify.min) || !has(q.qualify.max)"
    " || quantity(q.qualify.min).compareTo(quantity(q.qualify.max)) <= 0": (
        "qualify.min must not be above qualify.max, or no answer qualifies"
    ),
    "!has(q.qualify) || q.type == 'DateRange' || !has(q.qualify.withinDays)": (
        "qualify.withinDays is for questions of type DateRange: leave it out"
    ),
}

QUESTION_RULES = (
    rule(
        _EACH % "(q.type == 'Choice') == (has(q.choices) && size(q.choices) >= 2)",
        "choices must hold at least two entries for a question of type Choice, and be absent for other types",
    ),
    rule(
        _EACH % f"!has(q.when) || (q.when.question != q.name && {_FIRST} == q.when.question)"
        f" || ({_AS_STORED} && {_IN_ORDER})",
        "when.question must be the name of an earlier question of this campaign: put that one before",
        optionalOldSelf=True,
    ),
    *(rule(f"{_EACH % holds} || {_AS_STORED}", message, optionalOldSelf=True) for holds, message in _RULES.items()),
)
