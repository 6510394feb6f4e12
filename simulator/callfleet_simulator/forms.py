"""Form bodies and query strings, bounded, with repeated and empty values kept."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

from callfleet_simulator.errors import ApiError, invalid

MAX_BODY_BYTES = 128 * 1024
MAX_FIELDS = 200


class Form:
    """The fields of a request; `text` for the last value of one, `all` for each of them."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str | None:
        """The field's last value; None when it is absent or empty."""
        values = self._fields.get(name)
        return (values[-1] or None) if values else None

    def all(self, name: str) -> list[str]:
        """Each value given."""
        return self._fields.get(name, [])

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds. Raises ApiError 20001."""
        text = self.text(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text[:12]) <= high:
            raise invalid(20001, f"Invalid parameter {name}: it must be a whole number, {low} to {high}")
        return int(text)


def parse_form(text: str) -> Form:
    """An URL-encoded text as a form. Raises ApiError 20001 when it has too many fields."""
    try:
        return Form(parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise invalid(20001, f"the request has more than {MAX_FIELDS} fields") from error


async def read_form(request: Request) -> Form:
    """The request's body as a form. Raises ApiError 413 beyond the bound."""
    return parse_form((await read_body(request)).decode("utf-8", "replace"))


async def read_body(request: Request) -> bytes:
    """The request's body. Raises ApiError 413 beyond the bound."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, 20001, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)
