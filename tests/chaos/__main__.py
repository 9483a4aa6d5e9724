"""Wait for two hundred jobs while everything around the triggerer goes wrong, and print what came of it.

``make chaos`` takes five minutes and up to three more; ``make chaos SEED=7 MINUTES=1`` repeats another run.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import keeper

OUTPUT = Path(__file__).parents[1] / "output" / "chaos"
SHOWN = 20  # lines of a finding

SETTINGS = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__SECRETS__BACKEND": "tests.chaos.inside.Secrets",
    "AIRFLOW__WORKERS__SECRETS_BACKEND": "tests.chaos.inside.Secrets",
    "AIRFLOW__NBJOB__MAX_REQUESTS_PER_MINUTE": "600",
    # An error that the API server answers is one that a trigger sees.
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "NO_GCE_CHECK": "true",
}


def main() -> None:
    keeper.start()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", default=str(random.randrange(10_000)), help="repeats a run (default: by chance)")
    parser.add_argument("--minutes", type=float, default=5.0, help="of chaos (default: %(default)s)")
    parser.add_argument(
        "--tasks", type=int, default=200, help="that wait, a third of them from their start (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, default=OUTPUT, help="an empty one, for logs (default: %(default)s, emptied)"
    )
    options = parser.parse_args()

    if options.folder == OUTPUT:
        shutil.rmtree(OUTPUT, ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.iterdir()):
        parser.error(f"--folder: {options.folder} is not empty")
    os.environ.update({"AIRFLOW_HOME": str(options.folder / "airflow"), **SETTINGS})
    print(
        f"Seed {options.seed}, {options.minutes:g} minutes, {options.tasks} tasks; logs in {options.folder}", flush=True
    )
    started = time.monotonic()
    with output_in(options.folder / "triggerer.log"):
        # Airflow reads its settings when it is imported.
        from tests.chaos.judge import judge
        from tests.chaos.schedule import make_schedule
        from tests.chaos.triggerer import run
        from tests.support.airflow_versions import STARTS_IN_TRIGGERER

        schedule = make_schedule(options.seed, options.minutes, options.tasks, starting=STARTS_IN_TRIGGERER)
        seen, done = run(schedule, options.minutes, options.folder)
    seconds = time.monotonic() - started

    findings = judge(schedule, seen)
    width = max(len(finding.what) for finding in findings)
    print(f"\nWhat was done, seed {options.seed}\n")
    for what, count in done.items():
        print(f"{what.ljust(width)}  {count:>6}")
    print(f"\nWhat came of it, seed {options.seed}\n")
    for finding in findings:
        print(f"{finding.what.ljust(width)}  {finding.of:>6}  {'yes' if finding.is_right else 'NO'}")
        for line in finding.wrong[:SHOWN]:
            print(f"    {line}")
        if len(finding.wrong) > SHOWN:
            print(f"    and {len(finding.wrong) - SHOWN} more")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime
    print(
        f"\n{seconds:.0f} s, {cpu:.0f} s of CPU. Once more: make chaos SEED={options.seed} MINUTES={options.minutes:g}"
    )
    if not all(finding.is_right for finding in findings):
        sys.exit(1)


@contextmanager
def output_in(path: Path) -> Iterator[None]:
    """Have what this process and its children write go to a file, whoever writes it."""
    sys.stdout.flush()
    kept = [os.dup(1), os.dup(2)]
    with path.open("wb") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


if __name__ == "__main__":
    main()
