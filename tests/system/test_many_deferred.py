"""Many jobs wait in Airflow's own triggerer; what that costs in full, `make bench` shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.benchmarks.__main__ import environment


def test_a_hundred_deferred_jobs_share_one_watch_and_all_ends_are_seen(tmp_path):
    order = {"kind": "ours", "waiting": 100, "seconds": 20, "start": 2, "settle": 30}
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.triggerer", json.dumps(order)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment(str(tmp_path))},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    figures = json.loads(run.stdout.splitlines()[-1])
    assert (figures["detected"], figures["ended"]) == (10, 10)
    assert figures["channels"] <= 2, "one channel, with the interceptor's around it"
    # The budget is 60 a minute, of which a sixth is left for bursts. 100 triggers of their own make 600.
    assert figures["calls_per_minute"] <= 60
    assert figures["calls_per_minute_while_ending"] <= 60
