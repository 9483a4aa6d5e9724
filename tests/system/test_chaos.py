"""Waiting, and starting tasks in the triggerer, survive a minute of chaos; `make chaos` makes five of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import CHECKOUT


# A minute of schedule, which stretches on a busy machine, and then at most END_SECONDS until all is done.
@pytest.mark.timeout(300)
def test_in_a_minute_of_chaos_every_job_is_judged_right_and_none_is_stopped_unasked(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seed", "1", "--minutes", "1", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
