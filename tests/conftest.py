"""How a run of the tests is set up, and the emulator that most of them share."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from xdist.remote import Producer

from tests.support import fault_table, keeper
from tests.support.emulator_process import EmulatorProcess, example_emulator
from tests.support.fixtures import worker_id
from tests.support.paths import CHECKOUT
from tests.support.patience import patient
from tests.support.process_state import as_it_was
from tests.support.progress import Progress
from tests.support.promises import proven_by
from tests.support.scheduling import ByWhatIsShared, rank_of
from tests.support.services import PostgreSQL

# Airflow makes its home when it is imported, by default in that of the user. Processes that run at once have one each.
os.environ["AIRFLOW_HOME"] = str(CHECKOUT / "tests" / "output" / f"airflow-{worker_id()}")
# Where pytest makes its numbered folders; unlike with --basetemp, two runs at once have one each.
os.environ["PYTEST_DEBUG_TEMPROOT"] = str(CHECKOUT / "tests" / "output")

# The tests of a user's repository, which have a session of their own; see `tests/system/test_user_repository.py`.
collect_ignore = ["user_repository"]

# How long an example takes, and how long it takes to make, depends on the machine. `make random` searches for longer.
PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("patient", max_examples=30, **PATIENT)
settings.register_profile("searching", max_examples=100, **PATIENT)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--whole`` (full numbers, which take three times as long) and ``--production`` to the fault matrix."""
    parser.addoption("--production", action="store_true", help="run the fault matrix on PostgreSQL, Redis and Celery")
    parser.addoption("--whole", action="store_true", help="run the fault matrix with its full numbers")


def pytest_configure(config: pytest.Config) -> None:
    """End by SIGTERM as by Ctrl-C, so that fixtures stop the processes that they started; a keeper ends the rest."""
    (CHECKOUT / "tests" / "output").mkdir(exist_ok=True)
    keeper.start()
    signal.signal(signal.SIGTERM, _end)
    # Below a shell's background job, as CI may be, SIGINT is ignored, and would be by all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if worker_id() == "main":
        config.pluginmanager.register(Progress(config))


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt what ends the processes
    pytest.exit("SIGTERM", returncode=143)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByWhatIsShared:
    """Keep together what shares an Airflow, or what its module makes."""
    return ByWhatIsShared(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the fault matrix, whose rows come from the processes that ran its cases; keep it where it is documented."""
    ended = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    if rows := fault_table.rows_of(ended):
        terminalreporter.section("faults, and what came of them")
        terminalreporter.write_line(fault_table.as_text(rows))
    if config.getoption("--production"):
        from tests.system.production import report

        terminalreporter.write_line(report.keep(rows, ended))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: those of a gzip carry the time, and the processes of a run must agree on all ids."""
    return f"{len(val)}_bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Scale the time that each test may take, as every other bound, and do not trace what is only searched for.

    Tracing doubles the time of a body that Hypothesis runs again and again.
    """
    if worker_id() != "main":
        items.sort(key=lambda item: rank_of(item.nodeid))
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.no_cover)
        marker = item.get_closest_marker("timeout")
        seconds = marker.args[0] if marker else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(patient(seconds)), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Leave the process to the next test as it was."""
    with as_it_was():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say below a test that failed which sentences of the README are then false."""
    report = yield
    if report.failed and (sentences := proven_by(item.nodeid)):
        report.sections.append(("README.md promises", "\n".join(sentences)))
    return report


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """Start one emulator for the session, with the example notebooks."""
    with example_emulator(tmp_path_factory, "emulator") as process:
        yield process


@pytest.fixture(scope="session")
def metadata_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of an empty database for Airflow's tables: SQLite's, or PostgreSQL's with ``--production``."""
    if not request.config.getoption("--production"):
        yield f"sqlite:///{tmp_path_factory.mktemp('metadata') / 'airflow.db'}"
        return
    with PostgreSQL() as server:
        yield server.create_database("metadata")
