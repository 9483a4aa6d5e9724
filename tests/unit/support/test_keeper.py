"""A test process may end in any way: what it started ends too, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.paths import CHECKOUT
from tests.support.patience import patient, wait_until

# Starts a process in a session of its own, which no signal to the owner's group reaches, and tells its id.
OWNER = """
import subprocess, sys, time
from tests.support import keeper
keeper.start()
sleeper = subprocess.Popen([sys.executable, "-c", {sleeper!r}], start_new_session=True)
print(sleeper.pid, flush=True)
{then}
"""
SLEEPER = "import time; time.sleep(3600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


def start(then: str, sleeper: str = SLEEPER) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start an owner, and return it with what it started."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then, sleeper=sleeper)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout
    return owner, psutil.Process(int(owner.stdout.readline()))


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_an_owner_started_ends_with_it(how):
    owner, sleeper = start("time.sleep(3600)")
    assert not has_ended(sleeper)
    os.kill(owner.pid, how)
    owner.wait(patient(20))
    wait_until(lambda: has_ended(sleeper), timeout=30, what="the end of what was started")


def test_what_is_left_by_an_owner_that_ends_by_itself_ends_too():
    owner, sleeper = start("")
    assert owner.wait(patient(20)) == 0
    wait_until(lambda: has_ended(sleeper), timeout=30, what="the end of what was started")


@pytest.mark.test_all
def test_what_does_not_end_by_itself_is_killed():
    owner, sleeper = start("", STUBBORN)
    owner.wait(patient(20))
    wait_until(lambda: has_ended(sleeper), timeout=45, what="the end of what ignores SIGTERM")


def test_what_another_run_started_goes_on():
    owner, sleeper = start("time.sleep(3600)")
    another, left = start("")
    another.wait(patient(20))
    wait_until(lambda: has_ended(left), timeout=30, what="the end of what was started")
    assert not has_ended(sleeper)
    owner.kill()
    owner.wait(patient(20))
    wait_until(lambda: has_ended(sleeper), timeout=30, what="the end of the first run's")
