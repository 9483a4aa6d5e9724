"""Start the emulator, and an Airflow that uses it, as processes of a script, and end both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
BUCKET = "nbjob-examples"
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def say(message: str) -> None:
    """Print a line of progress."""
    print(f"== {message}", flush=True)


class Processes:
    """The processes of a script: all end with it, the last one first, also on failure or Ctrl-C."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)  # a second one would leave processes behind
        for process in reversed(self._started):
            stop(process)

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process, in a group of its own: Ctrl-C reaches the script alone."""
        with held_back(*INTERRUPTS):
            self._started.append(subprocess.Popen(command, text=True, start_new_session=True, **options))
        return self._started[-1]


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Delay signals: one between the start of a process and its entry in the list would leave the process behind."""
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in came[:1]:
        signal.raise_signal(number)


def start_emulator(processes: Processes, folder: Path) -> subprocess.Popen[str]:
    """Start the emulator on free ports, with the example notebooks in its Cloud Storage; it writes below `folder`."""
    say("starting the emulator")
    folder.mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "airflow_provider_nbjob.emulator"),
        *("--grpc-port", "0", "--rest-port", "0", "--storage-port", "0"),
        *("--data-dir", str(folder / "emulator")),
        *("--upload", f"{CHECKOUT / 'example_dags' / 'notebooks'}=gs://{BUCKET}/notebooks"),
    ]
    with (folder / "emulator.log").open("w") as log:
        return processes.start(command, stdout=subprocess.PIPE, stderr=log, cwd=CHECKOUT)


def read_exports(emulator: subprocess.Popen[str], folder: Path) -> dict[str, str]:
    """Read the lines that the emulator prints until it serves; return the variables by which clients find it."""
    exports: dict[str, str] = {}
    assert emulator.stdout is not None
    for line in emulator.stdout:
        if line.strip() == "ready":
            return exports
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value.strip("'")
    log = folder / "emulator.log"
    reason = next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "it said nothing")
    raise SystemExit(f"The emulator did not start; see {log}: {reason}")


def airflow_environment(exports: dict[str, str], folder: Path) -> dict[str, str]:
    """Return Airflow's environment: a home of its own below `folder`, the example DAGs, the emulator's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **kept,
        **exports,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NBJOB_EXAMPLE_BUCKET": BUCKET,
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONWARNINGS": "ignore",
    }


def migrate(processes: Processes, environment: dict[str, str], folder: Path) -> None:
    """Make Airflow's SQLite database."""
    say("preparing Airflow's database")
    log_path = folder / "airflow-db.log"
    with log_path.open("w") as log:
        run = processes.start(["airflow", "db", "migrate"], env=environment, stdout=log, stderr=subprocess.STDOUT)
    if run.wait():
        raise SystemExit(f"airflow db migrate failed; see {log_path}")


def stop(process: subprocess.Popen[str]) -> None:
    """End a process of a script, and all that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
