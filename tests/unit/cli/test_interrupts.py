"""Stopping: a signal ends the work once, never the clean-up, and nothing outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from callfleet.hostservices.process import private_folder
from callfleet.interrupts import Interrupts
from callfleet.parts.errors import BuildCanceledError, BuildFailedError, PartError
from callfleet.parts.locks import file_lock
from callfleet.parts.part import atomic_folder
from callfleet.parts.run import Runner

# Works until it is stopped, then cleans up for a second; says each step on a line of its own.
WORKER = """
import sys, time
from callfleet.interrupts import Interrupts
def say(text): print(text, flush=True)
try:
    with Interrupts() as interrupts:
        try:
            say("working")
            time.sleep(30)
        finally:
            if "--hold" in sys.argv: interrupts.hold()
            say("cleaning")
            time.sleep(1.0)
            say("clean")
except KeyboardInterrupt:
    say("stopped")
"""
# The tests may be run by nohup, whose children ignore this one.
HEARS_SIGHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
# Runs a command that starts another one, both of which would go on for a minute. It can be interrupted whatever its
# shell decided: one that starts the tests in the background has them ignore SIGINT.
BUILDER = """
import sys
from pathlib import Path
from callfleet.interrupts import Interrupts
from callfleet.parts.run import Runner
with Interrupts():
    Runner().run(["sh", "-c", "sleep 61 & echo $! > $0; sleep 61", sys.argv[1]], Path(sys.argv[2]), timeout_s=60)
"""


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("hold", [True, False])
def test_further_signals_do_not_cut_the_clean_up_short(number: signal.Signals, hold: bool) -> None:
    process = started(HEARS_SIGHUP + WORKER, *(["--hold"] if hold else []))
    assert line(process) == "working"
    process.send_signal(number)
    assert line(process) == "cleaning"
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process.send_signal(again)
        time.sleep(0.05)
    out, err = process.communicate(timeout=10)
    assert out.split() == ["clean", "stopped"]
    assert "cleaning up" in err


def test_a_signal_during_an_ordinary_clean_up_does_not_stop_it() -> None:
    process = started(WORKER.replace("time.sleep(30)", "pass"), "--hold")
    assert [line(process), line(process)] == ["working", "cleaning"]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert out.split() == ["clean"]


def test_what_nohup_protects_goes_on_when_the_terminal_closes() -> None:
    process = started("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WORKER)
    assert line(process) == "working"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0].split() == ["cleaning", "clean", "stopped"]


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_build_and_what_it_started_end_with_their_owner(number: signal.Signals, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    owner = started(BUILDER, str(inner), str(tmp_path / "log"))
    until(lambda: inner.exists() and inner.read_text().strip())
    pids = [*(child.pid for child in psutil.Process(owner.pid).children(recursive=True)), int(inner.read_text())]
    assert len(pids) >= 3
    owner.send_signal(number)
    owner.communicate(timeout=20)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_command_tells_its_own_exit_code_and_its_words(tmp_path: Path) -> None:
    Runner().run(["sh", "-c", "echo fine"], tmp_path / "log", timeout_s=10)
    assert "fine" in (tmp_path / "log").read_text()
    with pytest.raises(BuildFailedError, match="exit 7"):
        Runner().run(["sh", "-c", "exit 7"], tmp_path / "log", timeout_s=10)
    with pytest.raises(BuildFailedError, match="exit 127"):
        Runner().run(["/no/such/program"], tmp_path / "log", timeout_s=10)
    assert "/no/such/program cannot be run" in (tmp_path / "log").read_text()


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    with pytest.raises(BuildFailedError):
        Runner().run(["sh", "-c", "sleep 61 & echo $! > $0; wait", str(inner)], tmp_path / "log", timeout_s=1)
    until(lambda: not psutil.pid_exists(int(inner.read_text())))


def test_after_cancel_nothing_is_started(tmp_path: Path) -> None:
    runner = Runner()
    runner.cancel()
    with pytest.raises(BuildCanceledError):
        runner.run(["touch", str(tmp_path / "made")], tmp_path / "log", timeout_s=10)
    assert not (tmp_path / "made").exists()


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".building-abc"
    (left / "deep").mkdir(parents=True)
    with atomic_folder(tmp_path / "key") as scratch:
        (scratch / "made").touch()
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_held_lock_is_complained_about_with_its_holder(tmp_path: Path) -> None:
    told: list[str] = []
    with (
        file_lock(tmp_path / "lock", 1.0),
        pytest.raises(PartError, match=f"process {os.getpid()} has held"),
        file_lock(tmp_path / "lock", 0.3, lambda: told.append("waiting")),
    ):
        pass
    assert told == ["waiting"]


def test_folders_whose_makers_were_killed_are_removed_and_living_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    maker = "from callfleet.hostservices.process import *; print(private_folder('x', None), flush=True)"
    script = f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}\n{maker}\ntime.sleep(60)"
    killed, alive = started(script), started(script)
    left, kept = Path(line(killed)), Path(line(alive))
    killed.kill()
    killed.communicate()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = private_folder("x", None)
    assert own.is_dir()
    assert kept.is_dir()
    assert not left.exists()
    alive.kill()
    alive.communicate()


def test_a_command_started_by_make_ends_with_it() -> None:
    child = (
        "import time; from callfleet.interrupts import end_with_make as f; f(); print(1, flush=True); time.sleep(60)"
    )
    script = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); print(p.pid); p.wait()"
    environment = {**os.environ, "MAKELEVEL": "1"}
    make = subprocess.Popen(
        [sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    pid = int(line(make))
    assert line(make) == "1"
    make.kill()
    until(lambda: not psutil.pid_exists(pid))
    make.communicate()
