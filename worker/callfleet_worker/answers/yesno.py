"""Yes or no, as people say it on the phone: "I guess so", "not really", "we don't"."""

from __future__ import annotations

import re

from callfleet_worker.answers.words import Answer, is_unsure, last_correction, tidy, without_doubt, words_of

_NO = re.compile(
    r"\b(?:no+|nope|nah+|nay|negative|never|not (?:really|yet|so far|quite|a chance|that i know|"
    r"at all|anymore|any more|any longer|"
    r"right now|at the moment|"
    r"currently|particularly|exactly|necessarily|interested|for (?:me|now|us)|this (?:year|time)|me|us|today|likely)|"
    r"(?:i|we)(?:'m| am|'re| are) not|i'd rather not|rather not|i doubt it|of course not|absolutely not|"
    r"definitely not|certainly not|probably not|i guess not|i hope not|afraid not|unfortunately not|"
    r"(?:do|does|did|have|has|had|would|wo|ca|could|should|is|are|was|were|ai)n't|cannot|can not|"
    r"(?:do|did|have|would|will|could) not|neither|none|nobody|no one|nothing|without)\b",
    re.IGNORECASE,
)
_YES = re.compile(
    r"\b(?:yes+|yeah+|yea|yep|yup|ya|yah|sure|of course|absolutely|definitely|certainly|correct|"
    r"exactly|right(?! (?:now|away|here|there|before|after))|"
    r"affirmative|indeed|totally|naturally|sounds (?:good|great|fine)|that(?:'s| is| would be) "
    r"(?:right|correct|true|fine|good|great|ok|okay|me)|i (?:guess|think|believe|suppose|hope) so|i would say so|"
    r"i'd say so|probably|most likely|okay|ok|fine|by all means|you bet|go ahead|please do|uh-?huh|mm-?hm+|mhm+|"
    r"no problem|not a problem|why not|i'd (?:love|like) (?:to|that)|that works|works for me|sort of|kind of|"
    r"(?:i|we) (?:still |really |certainly |definitely |actually |already |sure )*(?:am|are|do|did|"
    r"have|will|would|can|could)"
    r"(?=\s*(?:[.,!]|$|still|indeed|actually|already|too|now|yes|thanks)))\b",
    re.IGNORECASE,
)
_POSITIVE_NEGATIONS = re.compile(
    r"\b(?:no problem|not a problem|why not|no worries|wouldn't mind|don't mind)\b", re.IGNORECASE
)
_DOUBTFUL_YES = re.compile(r"\bi (?:do not|don't|didn't) (?:think|believe|guess|suppose) so\b", re.IGNORECASE)
_BOTH = re.compile(r"\byes (?:and|or) no\b|\bno and yes\b|\byes,? (?:well,? )?no\b", re.IGNORECASE)
_ECHO = re.compile(
    r"\b(?:i|we)(?:'d| would| do| really| still| definitely| certainly| also|'ll| will)* (\w+)", re.IGNORECASE
)
_SOUNDS_LIKE = {
    "yet": "yes",
    "yessir": "yes",
    "yas": "yes",
    "ye": "yes",
    "know": "no",
    "now": "no",
    "nowt": "no",
}
_LEADING_WORDS = 2


def parse_yes_no(text: str, question_text: str = "") -> Answer | None:
    """Reads yes or no; nothing when both or neither were said, or the speaker is unsure.

    `question_text` lets "I need one" answer "Do you need a parking space?".
    """
    heard = last_correction(tidy(text))
    if not heard or _BOTH.search(heard):
        return None
    alone = words_of(heard)
    if len(alone) == 1 and alone[0] in _SOUNDS_LIKE:
        return Answer(_SOUNDS_LIKE[alone[0]], 0.6, heard)
    if _DOUBTFUL_YES.search(heard):
        return Answer("no", 0.9, heard)
    return _weigh(heard, question_text)


def _weigh(heard: str, question_text: str) -> Answer | None:
    softened = without_doubt(_POSITIVE_NEGATIONS.sub("yes", heard))
    no_at = [match.start() for match in _NO.finditer(softened)]
    yes_at = [match.start() for match in _YES.finditer(_NO.sub(lambda m: "#" * len(m[0]), softened))]
    if no_at and yes_at:
        return _first_word_decides(softened, no_at[0], yes_at[0])
    if no_at:
        return None if is_unsure(heard) else Answer("no", 0.95, heard)
    if yes_at:
        return None if _only_doubt(heard) else Answer("yes", 0.7 if is_unsure(heard) else 0.95, heard)
    return _echo(heard, question_text)


def _only_doubt(heard: str) -> bool:
    """Nothing firmer than "maybe" or "I'm not sure" was said."""
    return is_unsure(heard) and not re.search(
        r"\b(?:yes|yeah|yep|yup|sure|definitely|absolutely)\b", heard, re.IGNORECASE
    )


def _first_word_decides(heard: str, no_at: int, yes_at: int) -> Answer | None:
    """Both polarities: only a clear first word settles it ("Yes, but not right away", "No, that's right")."""
    first = min(no_at, yes_at)
    if len(words_of(heard[:first])) >= _LEADING_WORDS:
        return None
    return Answer("no" if no_at < yes_at else "yes", 0.75, heard)


def _echo(heard: str, question_text: str) -> Answer | None:
    """ "I need one" says yes to a question with "need" in it; anything unsure says nothing."""
    if is_unsure(heard):
        return None
    asked = set(words_of(question_text)) - {
        "you",
        "your",
        "the",
        "a",
        "to",
        "of",
        "we",
        "i",
        "be",
        "it",
        "this",
    }
    verbs = {match[1].lower() for match in _ECHO.finditer(heard)}
    if verbs & asked and not re.search(r"\b(?:if|when|what|who|why|how|whether)\b", heard, re.IGNORECASE):
        return Answer("yes", 0.6, heard)
    return None
