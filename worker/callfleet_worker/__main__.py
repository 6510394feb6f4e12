"""`python -m callfleet_worker`: the supervisor of a pod, or one attempt by hand."""

from __future__ import annotations

import argparse
import asyncio
import sys
from uuid import UUID

from pydantic import ValidationError

from callfleet_core.logs import configure
from callfleet_worker.settings import WorkerSettings

EXIT_BAD_SETTINGS = 2


def main() -> int:
    """Parses the command line, reads the environment, runs."""
    parser = argparse.ArgumentParser(prog="callfleet_worker", description=__doc__)
    parser.add_argument("--attempt", type=UUID, help="run this granted attempt and exit, without Kubernetes")
    parser.add_argument("--pod-uid", help="the pod UID that the attempt was granted to")
    options = parser.parse_args()
    if (options.attempt is None) != (options.pod_uid is None):
        parser.error("--attempt and --pod-uid go together")
    try:
        settings = WorkerSettings.model_validate({})
    except ValidationError as error:
        problems = "; ".join(f"{str(p['loc'][0]).upper()}: {p['msg']}" for p in error.errors(include_input=False))
        sys.stderr.write(f"callfleet_worker: set the environment right: {problems}\n")
        return EXIT_BAD_SETTINGS
    configure("worker", settings.log_level)
    if options.attempt is not None:
        from callfleet_worker.supervisor.one_attempt import run_one

        ended = asyncio.run(run_one(settings, options.attempt, options.pod_uid))
        return 0 if ended.get("end") not in ("error", "died", None) else 1
    from callfleet_worker.supervisor.supervisor import supervise

    return asyncio.run(supervise(settings))


if __name__ == "__main__":
    sys.exit(main())
