"""Tests of a user that need no Airflow: two processes run them side by side, or they are interrupted."""

import os
import time
from pathlib import Path

import pytest

SEEN = Path(os.environ["SEEN"])


@pytest.mark.parametrize("number", range(4))
def test_side_by_side(nbjob_emulator, number):
    nbjob_emulator.write("gs://shared/name", f"{number} {os.getpid()}".encode())
    address = nbjob_emulator.environment["NBJOB_EMULATOR_HOST"]
    (SEEN / f"{number}").write_text(f"{os.getpid()} {address} {os.environ['AIRFLOW_HOME']}")
    deadline = time.monotonic() + 60
    # The other process has to be there too, so that both emulators serve at the same time.
    while len({each.read_text().split()[0] for each in SEEN.iterdir()}) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert nbjob_emulator.read("gs://shared/name") == f"{number} {os.getpid()}".encode()
    assert nbjob_emulator.objects("gs://shared") == ["gs://shared/name"]


def test_waits(nbjob_emulator):
    (SEEN / "waits").write_text(f"{os.getpid()} {nbjob_emulator._process.pid}")
    time.sleep(3600)
