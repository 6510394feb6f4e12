"""Parts for the rest of the command: make sure they are there, and say where."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from callfleet.parts.catalogue import DEFAULT, PARTS, Planned, plan_parts
from callfleet.parts.debian import warn_line, which
from callfleet.parts.errors import PartError
from callfleet.parts.part import BuildContext, Part
from callfleet.parts.paths import log_home
from callfleet.parts.progress import Step
from callfleet.parts.reporter import Progress
from callfleet.parts.run import Runner


def program(part: str, name: str | None = None) -> Path:
    """The path of a built or found program, `name` being the part's own by default.

    Raises PartError when the part has not been built.
    """
    found = PARTS[part].find()
    if found is None:
        raise PartError(f"{part} is not built yet; run `callfleet parts build {part}`")
    return found.path / (name or part)


def system_program(name: str) -> Path:
    """The path of a program of the distribution. Raises PartError."""
    found = which(name)
    if found is None:
        raise PartError(f"{name} is not installed; run `callfleet parts build debian`")
    return found


def models_folder() -> Path:
    """The folder with `whisper-base/`, `piper/` and `smollm2/`. Raises PartError when it is not built."""
    found = PARTS["models"].find()
    if found is None:
        raise PartError("the models are not here yet; run `callfleet parts build models`")
    return found.path


def ensure(names: Sequence[str] = DEFAULT, progress: Progress | None = None) -> None:
    """Make every part in `names` (and what it needs) that no provider satisfies.

    Given a `progress`, its owner shows the steps; otherwise they are shown on stderr here. Raises PartError.
    """
    plan = plan_parts(names)
    if all(planned.found for planned in plan):
        return
    if progress is not None:
        _carry_out(plan, progress)
        return
    with Progress("Building CallFleet's parts") as own:
        _carry_out(plan, own)


def _carry_out(plan: Sequence[Planned], progress: Progress) -> None:
    for planned in plan:
        part = planned.part
        progress.add(Step(part.name, part.title, part.expected_s, part.lane))
        if planned.found is not None:
            progress.skip(part.name, planned.found.provider)
    runner = Runner()
    todo = [planned.part for planned in plan if planned.found is None]
    try:
        _build_in_lanes(todo, runner, progress)
    except BaseException:
        runner.cancel()
        raise


def _build_in_lanes(todo: Sequence[Part], runner: Runner, progress: Progress) -> None:
    """Parts of lane `first` come first, alone; then one thread for each other lane."""
    if any(part.lane == "first" for part in todo):
        progress.say(warn_line())
    _build_in_turn([part for part in todo if part.lane == "first"], runner, progress)
    lanes = sorted({part.lane for part in todo if part.lane != "first"})
    if not lanes:
        return
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="parts") as pool:
        futures = [
            pool.submit(_build_in_turn, [part for part in todo if part.lane == lane], runner, progress)
            for lane in lanes
        ]
        _wait_or_cancel(futures, runner)


def _wait_or_cancel(futures: Sequence[Future[None]], runner: Runner) -> None:
    """Wait for all lanes; the first failure, or Ctrl-C, ends the others."""
    pending = set(futures)
    failure: BaseException | None = None
    while pending:
        try:
            done, pending = wait(pending, timeout=0.5)
        except KeyboardInterrupt as interrupt:
            failure = failure or interrupt
            runner.cancel()
            continue
        for future in done:
            error = future.exception()
            if error is not None and failure is None:
                failure = error
                runner.cancel()
    if failure is not None:
        raise failure


def _build_in_turn(parts: Sequence[Part], runner: Runner, progress: Progress) -> None:
    for part in parts:
        log = log_home() / f"build-{part.name}.log"

        def note(text: str, key: str = part.name) -> None:
            progress.note(key, text)

        with progress.step(part.name):
            part.build(BuildContext(runner, log, note))
