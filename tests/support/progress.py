"""Tell of a run while it lasts: what failed, as soon as it did, and which tests take long.

A run that is ended from outside, as by a CI, would otherwise say neither.
"""

from __future__ import annotations

import threading
import time

import pytest

LONG_SECONDS = 120.0  # after which a test is named, and again after as many


class Progress:
    """A plugin of the process that prints; pytest-xdist passes on to it what happens in the others.

    :param config: of the run, which prints by one of its plugins
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._running: dict[str, float] = {}
        self._is_over = threading.Event()

    def pytest_sessionstart(self) -> None:
        """Begin to look for tests that take long."""
        threading.Thread(target=self._name_long_ones, name="progress", daemon=True).start()

    def pytest_sessionfinish(self) -> None:
        """End that."""
        self._is_over.set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test has ended."""
        self._running.pop(nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failure, which pytest itself does at the end of the run."""
        if report.failed:
            self._print(f"{report.nodeid} failed in its {report.when}:\n{report.longreprtext}")

    def _name_long_ones(self) -> None:
        while not self._is_over.wait(LONG_SECONDS):
            for test, began in list(self._running.items()):
                if (seconds := time.monotonic() - began) >= LONG_SECONDS:
                    self._print(f"{test} has run for {seconds:.0f} s")

    def _print(self, text: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        reporter.ensure_newline()
        reporter.write_line(text)
