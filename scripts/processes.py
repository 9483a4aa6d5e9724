"""Start the emulator, and an Airflow that uses it, as processes, and end both; for the scripts and for the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

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


def emulator_command(data_dir: Path, *options: str) -> list[str]:
    """Return the command that starts the emulator on free ports."""
    return [
        *(sys.executable, "-m", "airflow_provider_nbjob.emulator", "--data-dir", str(data_dir)),
        *("--grpc-port", "0", "--rest-port", "0", "--storage-port", "0", *options),
    ]


def start_emulator(processes: Processes, folder: Path) -> subprocess.Popen[str]:
    """Start the emulator with the example notebooks in its Cloud Storage; it writes below `folder`."""
    say("starting the emulator")
    folder.mkdir(exist_ok=True)
    upload = f"{CHECKOUT / 'example_dags' / 'notebooks'}=gs://{BUCKET}/notebooks"
    command = emulator_command(folder / "emulator", "--upload", upload)
    with (folder / "emulator.log").open("w") as log:
        return processes.start(command, stdout=subprocess.PIPE, stderr=log, cwd=CHECKOUT)


class Served(NamedTuple):
    """The lines that the emulator prints when it serves.

    :param exports: the variables that lead its clients to it
    :param rest_url: where it serves its REST API
    """

    exports: dict[str, str]
    rest_url: str


def read_served(emulator: subprocess.Popen[str]) -> Served | None:
    """Read the lines that the emulator prints until it serves; return None if it ends before that."""
    exports: dict[str, str] = {}
    rest_url = ""
    assert emulator.stdout is not None
    for line in emulator.stdout:
        kind, _, text = line.strip().partition(" ")
        if kind == "ready":
            return Served(exports, rest_url)
        if kind == "export":
            name, _, value = text.partition("=")
            exports[name] = value.strip("'")
        elif kind == "rest":
            rest_url = text
    return None


def read_exports(emulator: subprocess.Popen[str], folder: Path) -> dict[str, str]:
    """Return the variables that lead to the emulator, once it serves; end the script if it does not start."""
    if served := read_served(emulator):
        return served.exports
    log = folder / "emulator.log"
    reason = next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "it said nothing")
    raise SystemExit(f"The emulator did not start; see {log}: {reason}")


def airflow_environment(home: Path, dags: Path) -> dict[str, str]:
    """Return the environment of an Airflow with a home and a folder of DAGs, without the settings of this process."""
    # Without byte-code Airflow's imports take more than twice as long, in every process that is started.
    left_out = ("AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **dict.fromkeys(("no_grpc_proxy", "no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),  # gRPC reads no upper case
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def examples_environment(exports: dict[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of an Airflow with the example DAGs, led to the emulator; its home is below `folder`."""
    return {
        **airflow_environment(folder / "airflow", CHECKOUT / "example_dags"),
        **exports,
        "NBJOB_EXAMPLE_BUCKET": BUCKET,
        "PYTHONWARNINGS": "ignore",
    }


def settings_of_components(address: str) -> dict[str, str]:
    """Return the settings by which Airflow's components find the API server, and the size of a small machine."""
    return {
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__PORT": address.rpartition(":")[2],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
    }


def free_port(*wanted: int) -> int:
    """Return the first of the wanted ports of the loopback interface that is free, or any other free one."""
    for port in (*wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise SystemExit("No port is free")


def migrate(processes: Processes, environment: dict[str, str], folder: Path) -> None:
    """Make Airflow's SQLite database."""
    say("preparing Airflow's database")
    log_path = folder / "airflow-db.log"
    with log_path.open("w") as log:
        run = processes.start(["airflow", "db", "migrate"], env=environment, stdout=log, stderr=subprocess.STDOUT)
    if run.wait():
        raise SystemExit(f"airflow db migrate failed; see {log_path}")


def stop(process: subprocess.Popen[Any], seconds: float = 20, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process that leads a group, by SIGKILL to the whole group if it does not end in time."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
