"""What counts as yes and as no, in the words Whisper hears."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_worker.answers.yesno import parse_yes_no

PARKING = "Do you need a parking space?"
YES = [
    "Yes.",
    "Yeah, I am.",
    "Yep.",
    "Yup, that's right.",
    "Sure.",
    "Of course.",
    "Absolutely!",
    "Yes, I am.",
    "I am.",
    "We are, yes.",
    "I guess so.",
    "I think so.",
    "Uh-huh.",
    "Mm-hmm.",
    "That's correct.",
    "I do.",
    "Sounds good.",
    "Okay.",
    "No problem.",
    "Why not?",
    "Yes, but not right away.",
    "Um, yes, I suppose.",
    "Definitely.",
    "Probably.",
    "Yes, I have already.",
    "I'd love to.",
    "You bet.",
    "Yeah yeah.",
    "No, wait, yes.",
    "Yet.",
    "We still are.",
    "I wouldn't mind.",
    "Right.",
    "That would be fine.",
    "Yes I make that decision.",
    "Yes. I can't wait.",
]
NO = [
    "No.",
    "Nope.",
    "No, thank you.",
    "Not really.",
    "I don't think so.",
    "Nah.",
    "Not at the moment.",
    "Not yet.",
    "I'm not.",
    "We aren't.",
    "We don't.",
    "No, I haven't.",
    "Never.",
    "Unfortunately not.",
    "I'd rather not.",
    "I doubt it.",
    "Of course not.",
    "Not anymore.",
    "No, not really, sorry.",
    "Definitely not.",
    "I guess not.",
    "No, that's right.",
    "Yes, I mean no.",
    "Know.",
    "We do not.",
    "No, we rent.",
    "I won't.",
    "Not interested.",
    "Yes. Wait, no.",
    "Not so far.",
    "Not that I know of.",
]
ABSTAIN = [
    "",
    "Maybe.",
    "I don't know.",
    "I'm not sure.",
    "It depends.",
    "Yes and no.",
    "The weather is nice.",
    "Hello?",
    "What do you mean?",
    "My wife and I together.",
    "I haven't decided.",
    "Perhaps.",
    "Blue.",
    "I want to know who you are.",
    "Either way.",
    "Who is this?",
]


@pytest.mark.parametrize("heard", YES)
def test_yes_is_understood(heard: str) -> None:
    answer = parse_yes_no(heard)
    assert answer is not None
    assert answer.value == "yes"


@pytest.mark.parametrize("heard", NO)
def test_no_is_understood(heard: str) -> None:
    answer = parse_yes_no(heard)
    assert answer is not None
    assert answer.value == "no"


@pytest.mark.parametrize("heard", ABSTAIN)
def test_doubt_is_left_open(heard: str) -> None:
    assert parse_yes_no(heard) is None


def test_the_questions_own_verb_says_yes() -> None:
    answer = parse_yes_no("I need one, for my car.", PARKING)
    assert answer is not None
    assert answer.value == "yes"
    assert parse_yes_no("I like cars.", PARKING) is None


@given(st.text(max_size=300))
def test_any_text_is_survived(heard: str) -> None:
    answer = parse_yes_no(heard, PARKING)
    assert answer is None or answer.value in ("yes", "no")
