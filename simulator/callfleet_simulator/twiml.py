"""The part of TwiML that a CallFleet call can meet, parsed into small verbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from callfleet_simulator.errors import TwimlError
from callfleet_simulator.tones import WORDS_PER_SECOND

MAX_BYTES = 64 * 1024  # Twilio's own bound on a TwiML document


@dataclass(frozen=True)
class Stream:
    """<Connect><Stream>: hands the call's audio to a WebSocket, both ways, until one side ends it."""

    url: str
    name: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    action: str | None = None


@dataclass(frozen=True)
class Say:
    """<Say>: the carrier's own voice, which is a murmur of so many seconds."""

    seconds: float
    words: str


@dataclass(frozen=True)
class Pause:
    """<Pause>: silence, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Hangup:
    """<Hangup>: ends the call."""


@dataclass(frozen=True)
class Reject:
    """<Reject>: on a call that is already up it only ends it."""


Verb = Stream | Say | Pause | Hangup | Reject


def parse(document: str) -> list[Verb]:
    """The verbs of a TwiML document, in order.

    Raises TwimlError with the carrier's code: 11750 too large, 12100 not XML, 12200 not a
    document that it knows, 13910 a bad pause, 31923 a stream URL that is not ws:// or wss:// or has a query string.
    """
    if len(document.encode()) > MAX_BYTES:
        raise TwimlError(11750, "the TwiML document is larger than 64 KiB: make it shorter")
    if "<!DOCTYPE" in document or "<!ENTITY" in document:
        raise TwimlError(12100, "TwiML must not declare a document type")
    try:
        root = ET.fromstring(document.strip())  # noqa: S314 - document types are refused above
    except ET.ParseError as error:
        raise TwimlError(12100, f"the TwiML document is not XML: {error}") from error
    if root.tag != "Response":
        raise TwimlError(12200, "a TwiML document begins with <Response>")
    return [_verb(element) for element in root]


def _verb(element: ET.Element) -> Verb:
    match element.tag:
        case "Connect":
            return _connect(element)
        case "Say":
            words = "".join(element.itertext())
            return Say(max(0.5, len(words.split()) / WORDS_PER_SECOND), words)
        case "Pause":
            return Pause(_seconds(element.get("length", "1")))
        case "Hangup":
            return Hangup()
        case "Reject":
            return Reject()
        case _:
            raise TwimlError(12200, f"the simulator does not know the TwiML verb <{element.tag}>")


def _seconds(text: str) -> float:
    if not text.isdigit() or int(text) > 3600:
        raise TwimlError(13910, "<Pause length> must be a whole number of seconds, 0 to 3600")
    return float(text)


def _connect(element: ET.Element) -> Stream:
    stream = element.find("Stream")
    if stream is None:
        raise TwimlError(12200, "the simulator knows <Connect> only with a <Stream> inside")
    url = stream.get("url", "")
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.netloc or parts.query:
        raise TwimlError(31923, "<Stream url> must be ws:// or wss:// with no query string")
    parameters = {p.get("name", ""): p.get("value", "") for p in stream.findall("Parameter")}
    return Stream(url, stream.get("name"), parameters, element.get("action"))
