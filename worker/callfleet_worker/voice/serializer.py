"""Twilio's media messages with what pipecat's serializer leaves out: arrival times, marks, and a quick resampler."""

from __future__ import annotations

import json

from pipecat.frames.frames import AudioRawFrame, Frame, InputAudioRawFrame
from pipecat.serializers.twilio import TwilioFrameSerializer

from callfleet_worker.voice.frames import MarkFrame
from callfleet_worker.voice.turn_clock import TurnClock
from callfleet_worker.voice.upsample import ShortUpsampler

RECEIVED_AT = "received_at"


class CallSerializer(TwilioFrameSerializer):
    """Never hangs up by itself: that goes through the carrier's client, whose base URL is explicit."""

    def __init__(self, stream_sid: str, clock: TurnClock) -> None:
        super().__init__(stream_sid, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
        self._input_resampler = ShortUpsampler()
        self._clock = clock
        self.stream_sid = stream_sid

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """A frame of audio with its arrival time, a mark, a digit, or nothing."""
        received_at = self._clock.now()
        if b'"mark"' in data if isinstance(data, bytes) else '"mark"' in data:
            return _mark(data)
        frame = await super().deserialize(data)
        if isinstance(frame, InputAudioRawFrame):
            frame.metadata[RECEIVED_AT] = received_at
        return frame

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """A media, mark or clear message."""
        message = await super().serialize(frame)
        if message is not None and isinstance(frame, AudioRawFrame):
            self._clock.media_written()
        return message

    def mark(self, name: str) -> dict[str, object]:
        """The message that asks the carrier to say when everything before it was played."""
        return {"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}}


def _mark(data: str | bytes) -> MarkFrame | None:
    try:
        message = json.loads(data)
        return MarkFrame(mark=str(message["mark"]["name"])) if message.get("event") == "mark" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
