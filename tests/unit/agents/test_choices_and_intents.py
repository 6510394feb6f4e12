"""Choices, free text, and what is no answer at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_worker.answers.choice import parse_choice
from callfleet_worker.answers.intents import Intent, find_intent, may_be_a_wish
from callfleet_worker.answers.text import parse_text

HOMES = ["house", "condo", "townhouse"]
CHOSEN = [
    ("A house.", "house"),
    ("A condo, I think.", "condo"),
    ("Townhouse.", "townhouse"),
    ("A town house, please.", "townhouse"),
    ("Condominium.", "condo"),
    ("Houses, mostly.", "house"),
    ("Kondo.", "condo"),
    ("Not a house, a condo.", "condo"),
    ("A house, no, a condo.", "condo"),
    ("The first one.", "house"),
    ("The last one.", "townhouse"),
    ("Condos.", "condo"),
    ("I'd say a condo would be best.", "condo"),
    ("The second.", "condo"),
    ("a con do", "condo"),
    ("Definitely a house", "house"),
]
NOT_CHOSEN = [
    "",
    "A house or a condo.",
    "Any of them.",
    "I don't know.",
    "Yes.",
    "A boat.",
    "Whichever.",
    "Not a house.",
]
INTENTS = [
    ("I cannot come to the phone right now. Please leave a message.", Intent.VOICEMAIL),
    ("Leave your name, number and message after the beep.", Intent.VOICEMAIL),
    ("Your call has been forwarded to an automated voice message system.", Intent.VOICEMAIL),
    ("This mailbox is full.", Intent.VOICEMAIL),
    ("Stop calling me.", Intent.OPT_OUT),
    ("Please don't call again.", Intent.OPT_OUT),
    ("Take me off your list.", Intent.OPT_OUT),
    ("Remove my number from your list", Intent.OPT_OUT),
    ("Don't ever call here again!", Intent.OPT_OUT),
    ("Leave me alone.", Intent.OPT_OUT),
    ("Please start calling me.", Intent.OPT_OUT),
    ("Please start calling me. Please start calling me.", Intent.OPT_OUT),
    ("Please dot call in me.", Intent.OPT_OUT),
    ("Or a star calling me?", Intent.OPT_OUT),
    ("Start calling here again", Intent.OPT_OUT),
    ("You have the wrong number.", Intent.WRONG_PERSON),
    ("There's nobody by that name.", Intent.WRONG_PERSON),
    ("He doesn't live here anymore.", Intent.WRONG_PERSON),
    ("I'm not interested.", Intent.NOT_INTERESTED),
    ("We're really not interested, thanks.", Intent.NOT_INTERESTED),
    ("I'm driving right now.", Intent.BUSY),
    ("Can you call me back later?", Intent.BUSY),
    ("It's a bad time.", Intent.BUSY),
    ("Who is this?", Intent.WHO),
    ("Who's calling?", Intent.WHO),
    ("What is this about?", Intent.WHO),
    ("Are you a robot?", Intent.WHO),
    ("Could you repeat that?", Intent.REPEAT),
    ("Sorry?", Intent.REPEAT),
    ("What?", Intent.REPEAT),
    ("I didn't catch that.", Intent.REPEAT),
    ("Pardon?", Intent.REPEAT),
    ("Hold on a second.", Intent.HOLD_ON),
    ("One moment, please.", Intent.HOLD_ON),
    ("Goodbye.", Intent.GOODBYE),
    ("I have to go.", Intent.GOODBYE),
    ("Hello?", Intent.GREETING),
    ("Hi, this is she.", Intent.GREETING),
    ("Yes, hello?", Intent.GREETING),
    ("Hello, hello?", Intent.GREETING),
    ("Hello, Sam speaking.", Intent.GREETING),
]
NO_INTENT = [
    "Can I leave a message for him?",
    "Would you like to leave a message?",
    "Yes, I am.",
    "No.",
    "About four hundred thousand dollars.",
    "In the next three months.",
    "A condo, I think.",
    "Three.",
    "Call it three hundred thousand.",
    "Right now.",
    "Just me.",
    "Yes.",
    "I stopped calling agents.",
    "You can start calling me after five.",
    "Please start calling me tomorrow.",
    "",
]


@pytest.mark.parametrize(("heard", "value"), CHOSEN)
def test_a_choice_is_understood(heard: str, value: str) -> None:
    answer = parse_choice(heard, HOMES)
    assert answer is not None
    assert answer.value == value


@pytest.mark.parametrize("heard", NOT_CHOSEN)
def test_no_choice_is_made_up(heard: str) -> None:
    assert parse_choice(heard, HOMES) is None


@pytest.mark.parametrize(("heard", "intent"), INTENTS)
def test_what_is_no_answer_is_recognised(heard: str, intent: Intent) -> None:
    assert find_intent(heard) is intent


@pytest.mark.parametrize("heard", NO_INTENT)
def test_answers_are_no_intents(heard: str) -> None:
    assert find_intent(heard) is None


@pytest.mark.parametrize("heard", ["If not, call me.", "What's that calling me?", "Take me on your list.", "Call me."])
def test_what_may_have_been_a_wish_is_to_be_heard_again(heard: str) -> None:
    assert may_be_a_wish(heard)


@pytest.mark.parametrize("heard", ["", "A condo, I think.", "Stop calling me.", "Start calling me.", "call " * 13])
def test_most_of_what_is_said_is_heard_once(heard: str) -> None:
    assert not may_be_a_wish(heard)


def test_free_text_keeps_the_words_and_drops_doubt() -> None:
    answer = parse_text("We have two dogs.")
    assert answer is not None
    assert answer.value == "We have two dogs."
    assert parse_text("I don't know.") is None
    assert parse_text("  ") is None


@given(
    st.text(max_size=300),
    st.lists(st.text(alphabet="abcdefgh ", min_size=1, max_size=12), min_size=2, max_size=5, unique=True),
)
def test_any_text_is_survived(heard: str, choices: list[str]) -> None:
    answer = parse_choice(heard, choices)
    assert answer is None or answer.value in choices
    find_intent(heard)
    parse_text(heard)
