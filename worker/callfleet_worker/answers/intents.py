"""What can be meant besides an answer: leave a message, stop calling, wrong number, who is this, not now."""

from __future__ import annotations

import re
from enum import StrEnum

from callfleet_worker.answers.words import tidy, words_of


class Intent(StrEnum):
    """Something said that is no answer, strongest first."""

    VOICEMAIL = "voicemail"
    OPT_OUT = "optOut"
    WRONG_PERSON = "wrongPerson"
    NOT_INTERESTED = "notInterested"
    BUSY = "busy"
    WHO = "who"
    REPEAT = "repeat"
    HOLD_ON = "holdOn"
    GOODBYE = "goodbye"
    GREETING = "greeting"


_PATTERNS: list[tuple[Intent, re.Pattern[str]]] = [
    (
        # What machines say, and people hardly ever: "can I leave a message?" is a person's.
        Intent.VOICEMAIL,
        re.compile(
            r"\bplease (?:\w+ )?(?:leave|record)\b[^?]{0,40}\bmessage\b(?!\?)|"
            r"\b(?:leave|record) (?:your|me a|us a)\b[^?]{0,40}\bmessage\b(?!\?)|"
            r"\bmessage (?:after|at) the (?:tone|beep|signal)\b|\bafter the (?:tone|beep)\b|"
            r"\bforwarded to (?:an? )?(?:\w+ )?voice ?(?:mail|message)|\bmailbox is full\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.OPT_OUT,
        re.compile(
            r"\b(?:stop|quit|don't|do not|never) (?:\w+ )?(?:call|calling|contact|contacting|phone|"
            r"phoning|bother|bothering|"
            r"ring|ringing)(?:ing)? ?(?:me|us|here|this|again|my|anymore|ever|$|[.,!])|"
            r"\b(?:take|remove|get|cross|strike|drop|delete) (?:me|us|my (?:number|name)|"
            r"this number)\b.{0,20}\b(?:off|from|out)\b|"
            r"\bdo[- ]not[- ]call (?:list|registry)\b|\bput me on (?:your|the|a) (?:do not|don't|"
            r"no)\b|\bunsubscribe\b|"
            r"\b(?:lose|forget|delete) (?:my|this) number\b|\bleave (?:me|us) alone\b|\bstop harassing\b|"
            r"\b(?:never|don't ever|do not ever) call\b|\bstop calling\b|"
            # "Stop calling me", as Whisper hears it two times in three (0032); with a time it is meant: "after five".
            r"\b(?:start|star|staff|stuff|dot) call(?:ing| in| on) (?:me|us|here|this number)"
            r"(?=[.!?]|$| again| any ?more| please)",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.WRONG_PERSON,
        re.compile(
            r"\bwrong (?:number|person|guy|house|family)\b|\bno ?(?:body|one) (?:here )?(?:by|with|of) that name\b|"
            r"\b(?:that's|that is|i'm|i am|this is|it's) not (?:me|him|her|(?:my|their) name|"
            r"the (?:right )?person)\b|"
            r"\b(?:doesn't|does not|don't) live here\b|\b(?:he|she|they)(?:'s|'re| is|"
            r" are) not (?:here|home|available|in)\b|"
            r"\byou(?:'ve| have)? (?:got|have|reached|dialed|called)? ?the wrong\b|\bnot the (?:right )?person you\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.NOT_INTERESTED,
        re.compile(
            r"\b(?:not|isn't|aren't|no longer|never) (?:\w+ )?interested\b|\bno interest\b|"
            r"\bnot for (?:me|us),? thank|"
            r"\bdon't (?:want|need) (?:any|anything|this|it|what)\b|\bnot buying anything\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.BUSY,
        re.compile(
            r"\b(?:bad|not a good|not a great|wrong) time\b|\b(?:i'm|i am|we're|kind of|really|pretty|very) "
            r"(?:\w+ )?(?:busy|driving|working|cooking|in a meeting|at work|eating|having dinner)\b|"
            r"\bcall (?:me |us |again |back )+(?:later|tomorrow|another|some ?other|next|in|tonight|"
            r"this)\b|\bcall (?:me )?back\b|"
            r"\bcan(?:'t| not|not) talk\b|\btry (?:me )?(?:again )?(?:later|another time)\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.WHO,
        re.compile(
            r"\bwho(?:'s| is| are| am i| was)? (?:this|that|you|calling|speaking|it|talking|i )\b|"
            r"\bwho(?:'s| is) (?:this|calling)\b|"
            r"\bwhat(?:'s| is) this (?:about|regarding|call|for)\b|\bwhere are you calling from\b|\bwhat company\b|"
            r"\bwhat(?:'s| is) your name\b|\bare you (?:a |an )?(?:real|robot|human|person|ai|machine|"
            r"computer|bot|recording)\b|"
            r"\bis this (?:a |an )?(?:robot|recording|scam|machine|ai|real person|spam)\b|\bwhy are you calling\b|"
            r"\bhow did you get (?:my|this) number\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.REPEAT,
        re.compile(
            r"\b(?:repeat|rephrase)\b|\b(?:say|ask) (?:that|it|this) (?:again|one more|once more)\b|"
            r"\bcome again\b|\bpardon\b|"
            r"\bexcuse me\s*\?|\b(?:didn't|did not|can't|couldn't|cannot|don't) (?:quite |"
            r"really )?(?:hear|catch|get|understand|follow)\b|"
            r"\bwhat (?:was|did you|do you mean|was the question)\b|^(?:what|sorry|huh|eh|pardon me|"
            r"i'm sorry|excuse me)[?.! ]*$|"
            r"\bone more time\b|\bspeak up\b|\bbreaking up\b|\bwhat do you mean\b|^say (?:what|again)\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.HOLD_ON,
        re.compile(
            r"\bhold on\b|\bhang on\b|\b(?:just |give me )?(?:a|one) (?:second|sec|moment|"
            r"minute)\b(?! (?:bed|bath))|\bwait a\b|\bbear with\b",
            re.IGNORECASE,
        ),
    ),
    (
        Intent.GOODBYE,
        re.compile(
            r"\b(?:goodbye|good-bye|bye(?:[- ]bye)?|(?:i )?(?:have|got|gotta|need) to (?:go|run))\b",
            re.IGNORECASE,
        ),
    ),
]
_GREETING_WORDS = frozenset(
    [
        "hello",
        "hi",
        "hey",
        "hallo",
        "yello",
        "good",
        "morning",
        "afternoon",
        "evening",
        "there",
        "speaking",
        "yes",
        "yeah",
        "this",
        "is",
        "he",
        "she",
        "it",
        "who's",
        "how",
        "are",
        "you",
        "doing",
        "may",
        "can",
        "i",
        "help",
    ]
)
_GREETING = re.compile(
    r"^(?:yes,? |yeah,? |oh,? )?(?:hello+|hi+|hey|hallo|yello|good (?:morning|afternoon|evening)|"
    r"speaking|this is (?:he|she|\w+ speaking))\b",
    re.IGNORECASE,
)
_MAX_GREETING_WORDS = 7
_ABOUT_CALLING = re.compile(r"call|contact|phone|phoning|\bring(?:ing)?\b|\blist\b|\bnumber\b|bother", re.IGNORECASE)
_MAX_WISH_WORDS = 12


def find_intent(text: str) -> Intent | None:
    """The strongest intent in these words, or none."""
    heard = tidy(text)
    for intent, pattern in _PATTERNS:
        if pattern.search(heard):
            return intent
    return Intent.GREETING if is_greeting(heard) else None


def may_be_a_wish(text: str) -> bool:
    """Whether these words, if misheard, may have asked us not to call: short, about calling, and not asking it yet."""
    few = 0 < len(words_of(text)) <= _MAX_WISH_WORDS
    return few and find_intent(text) is not Intent.OPT_OUT and _ABOUT_CALLING.search(text) is not None


def is_greeting(text: str) -> bool:
    """ "Hello?", "Hi, this is she": picking up the phone, not answering a question."""
    words = words_of(text)
    if not words or len(words) > _MAX_GREETING_WORDS or not _GREETING.search(text.strip()):
        return False
    strangers = [word for word in words if word not in _GREETING_WORDS]
    return len(strangers) <= 1
