"""Is this really the carrier? Signatures over the public URL, and a token in the media path."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from uuid import UUID

from twilio.request_validator import RequestValidator

TOKEN_HEX_DIGITS = 32


class CarrierCheck:
    """Checks requests against one account's auth token. Nothing of a request is ever logged here."""

    def __init__(self, auth_token: str, public_url: str) -> None:
        self._key = auth_token.encode()
        self._validator = RequestValidator(auth_token)
        self._http = public_url
        self._stream = "ws" + public_url.removeprefix("http")

    def webhook(self, path: str, form: Mapping[str, str], signature: str | None) -> bool:
        """True when a webhook to this path with this form was signed by the carrier."""
        return signature is not None and bool(self._validator.validate(self._http + path, dict(form), signature))

    def stream(self, path: str, signature: str | None) -> bool:
        """True for a signed WebSocket handshake; the carrier sometimes signs the URL with a slash at its end."""
        if signature is None:
            return False
        urls = (self.stream_url(path), self.stream_url(f"{path}/"))
        return any(self._validator.validate(url, {}, signature) for url in urls)

    def stream_url(self, path: str) -> str:
        """A path as the carrier's WebSocket reaches it: ws for http, wss for https."""
        return self._stream + path

    def media_token(self, attempt_id: UUID) -> str:
        """The token that the media URL of this attempt carries: <Stream> URLs may have no query string."""
        digest = hmac.new(self._key, f"media:{attempt_id}".encode(), hashlib.sha256).hexdigest()
        return digest[:TOKEN_HEX_DIGITS]

    def media_token_is(self, attempt_id: UUID, token: str) -> bool:
        """Compares in constant time."""
        return hmac.compare_digest(self.media_token(attempt_id).encode(), token.encode())
