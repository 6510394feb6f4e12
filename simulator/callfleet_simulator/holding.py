"""Time that passes on a call which no stream carries: the called side lives on, and hears the carrier's own voice."""

from __future__ import annotations

import asyncio

from callfleet_simulator.audio import FRAME_MS, FRAME_SAMPLES, SILENCE, Pcm, to_mulaw
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.pacing import Lateness, Ticker


async def hold(far_end: FarEnd, seconds: float, interrupt: asyncio.Event, sound: Pcm | None = None) -> None:
    """Plays `sound`, then silence, to the far end for so many seconds, or until `interrupt`."""
    ticker = Ticker(FRAME_MS / 1000, Lateness(kept=1))  # not a stream's frames: no part of the statistics
    voice = b"" if sound is None else to_mulaw(sound)
    for number in range(round(seconds * 1000 / FRAME_MS)):
        if interrupt.is_set():
            return
        await ticker.tick()
        far_end.speak()
        heard = voice[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
        far_end.hear(heard + SILENCE[len(heard) :])
