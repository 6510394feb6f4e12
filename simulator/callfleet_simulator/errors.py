"""What the carrier answers when a request is wrong: Twilio's own error codes, in Twilio's JSON shape."""

from __future__ import annotations

from dataclasses import dataclass


class SimulatorError(Exception):
    """Base of the simulator's own errors."""


class PeopleFileError(SimulatorError):
    """The people file cannot be used; the text says which line of it and what to change."""


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


def too_many_requests(limit: int) -> ApiError:
    """The simulator's own bound on calls at once."""
    return ApiError(429, 20429, f"Too Many Requests: this simulator carries at most {limit} calls at once")


def invalid(code: int, message: str) -> ApiError:
    """A parameter that the carrier refuses."""
    return ApiError(400, code, message)
