"""The speech server: `python -m callfleet_worker.speech.whisper_server --socket PATH --model DIR`.

Prints one line, `ready`, once the model is loaded and warm.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from callfleet_core.logs import configure
from callfleet_worker.speech.audio import WHISPER_RATE
from callfleet_worker.speech.parent import die_with_parent
from callfleet_worker.speech.serving import UnixServer
from callfleet_worker.speech.whisper_engine import WhisperEngine

NICENESS = 5
"""Inference yields to the calls' media."""


def main() -> None:
    """Loads the model, serves, ends on SIGTERM or with its parent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    die_with_parent()
    os.nice(NICENESS)
    configure("speech", os.environ.get("LOG_LEVEL", "INFO"))
    engine = WhisperEngine(options.model, device=options.device, replicas=options.replicas)
    engine.decode(bytes(2 * WHISPER_RATE))
    asyncio.run(_serve(engine, options.socket, options.replicas))


async def _serve(engine: WhisperEngine, socket: Path, replicas: int) -> None:
    def work(header: dict[str, Any], pcm: bytes) -> tuple[dict[str, Any], bytes]:
        return vars(engine.decode(pcm, str(header.get("hint", "")))), b""

    serving = asyncio.ensure_future(UnixServer(socket, work, threads=replicas).run_until_stopped())
    await asyncio.sleep(0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    main()
