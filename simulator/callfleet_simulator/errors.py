"""What the carrier answers when a request is wrong: Twilio's own error codes, in Twilio's JSON shape."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError


class SimulatorError(Exception):
    """Base of the simulator's own errors."""


class PeopleFileError(SimulatorError):
    """The people file cannot be used; the text says which line of it and what to change."""


class FaultError(SimulatorError):
    """A fault cannot be switched on; the text says why."""


class LostReplyError(SimulatorError):
    """The request took effect, and its connection is to be closed without an answer."""


class SpeechError(SimulatorError):
    """People cannot speak or hear; the text says what is missing."""


class TwimlError(SimulatorError):
    """The TwiML that the application returned cannot be followed. Carries the carrier's error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class ApiError(SimulatorError):
    """A refused REST request. Codes are listed at https://www.twilio.com/docs/api/errors."""

    status: int
    code: int
    message: str

    def body(self) -> dict[str, object]:
        """The JSON that Twilio sends with this error."""
        return {
            "code": self.code,
            "message": self.message,
            "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
            "status": self.status,
        }


def unauthorised() -> ApiError:
    """Wrong or missing basic auth."""
    return ApiError(401, 20003, "Authenticate")


def not_found(path: str) -> ApiError:
    """No such resource in this account."""
    return ApiError(404, 20404, f"The requested resource {path} was not found")


def too_many_requests(why: str) -> ApiError:
    """The account asks too much."""
    return ApiError(429, 20429, f"Too Many Requests: {why}")


def server_error(status: int) -> ApiError:
    """The API itself fails: 500 and 503 as Twilio documents them; others come from what stands before it."""
    code, message = (20503, "Service Unavailable") if status == 503 else (20500, "Internal Server Error")
    return ApiError(status, code, message)


def queue_full(limit: int) -> ApiError:
    """More calls wait for their turn than the account may queue."""
    return ApiError(429, 22005, f"Call queue full: {limit} calls wait to be dialled; more are taken when it is shorter")


def unfinished() -> ApiError:
    """Only a call that has ended can be deleted."""
    return ApiError(409, 20009, "The resource cannot be deleted before it is complete")


# What a number's owner or the account's permissions may be: `errorCode` of a person whose behaviour is `refused`.
REFUSALS = {
    10001: (401, "Account is not active"),
    10002: (400, "Trial accounts do not support this feature"),
    21202: (400, "The number called is a premium number"),
    21211: (400, "The phone number you are attempting to call is not valid"),
    21214: (400, "The phone number you are attempting to call cannot be reached"),
    21215: (400, "The account is not permitted to call this number: enable the region in its geographic permissions"),
    21216: (400, "The account is not allowed to call this number"),
    21217: (400, "The phone number does not appear to be valid"),
    21219: (400, "The phone number is not verified: trial accounts call verified numbers only"),
}


def refusal(code: int) -> ApiError:
    """The refusal of a call to a number, by one of the codes of `REFUSALS`."""
    status, message = REFUSALS[code]
    return ApiError(status, code, message)


def invalid(code: int, message: str) -> ApiError:
    """A parameter that the carrier refuses."""
    return ApiError(400, code, message)


def readable(error: ValidationError) -> str:
    """What is wrong and where, one line each, without the values."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"]) or "(top)"
        lines.append(f"  {place}: {problem['msg']}")
    return "\n".join(lines)
