"""How late the event loop of a triggerer is while executed notebooks are read: `python -m tests.benchmarks.reading`.

The jobs end all at once. The bucket is the emulator's, in another process; each notebook is read through the client of
Cloud Storage, two at a time, in threads of the process whose loop is measured. A full garbage collection of Python
stops that process; how long depends on what is loaded in it, most of which is Airflow's. So the longest one is told,
beside one of Airflow's triggerer with nothing else in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.processes import BUCKET
from tests.benchmarks.notebook_tab import CODE
from tests.benchmarks.probe import TICK
from tests.support import keeper
from tests.support.emulator_process import EmulatorProcess
from tests.support.notebooks import code, display, notebook, result, scrap, stream

PARENT = "projects/emulator-project/locations/us-central1"
OUTPUT = Path(__file__).parents[1] / "output" / "reading.json"


def executed(megabytes: float) -> bytes:
    """Return an executed notebook of about so many megabytes: text, tables, plots, and results."""
    chance = random.Random(1)
    plot = {"image/png": chance.randbytes(60_000).hex(), "text/plain": "<Figure>"}
    table = {"text/html": "<tr><td>1</td><td>north</td></tr>" * 400, "text/plain": "rows"}
    part = code(CODE, stream("2026-01-01 12 rows read from north\n" * 300), display(plot), result(table))
    results = [code("glue", scrap("auc", 0.87)), code("rows", result({"text/plain": "12"}), tags=("result",))]
    cells = [part] * max(1, round(megabytes * 1e6 / len(json.dumps(part))))
    return notebook(*cells, *results)


async def lags_of(count: int) -> tuple[list[float], float, int]:
    """Read the notebooks of so many jobs; return how late the loop was, the seconds that it took, and those read."""
    from airflow_provider_nbjob.connection import Connection
    from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob
    from airflow_provider_nbjob.lifecycle.outcome import Conclusion
    from airflow_provider_nbjob.triggers.output import OutputReader

    def message(number: int) -> Any:
        job = NotebookExecutionJob(
            name=f"{PARENT}/notebookExecutionJobs/j{number}",
            job_state="JOB_STATE_SUCCEEDED",
            gcs_output_uri=f"gs://{BUCKET}/runs",
        )
        return type(job).pb(job)

    reader = OutputReader(Connection().make_hook, "us-central1")
    await reader.result_of(message(0), Conclusion(), None)  # the client is made
    lags: list[float] = []

    async def probe() -> None:
        while True:
            started = time.monotonic()
            await asyncio.sleep(TICK)
            lags.append(time.monotonic() - started - TICK)

    probing = asyncio.ensure_future(probe())
    began = time.monotonic()
    found = await asyncio.gather(*(reader.result_of(message(number), Conclusion(), None) for number in range(count)))
    seconds = time.monotonic() - began
    probing.cancel()
    assert all(result.results == {"auc": 0.87, "result": 12} for result, _ in filter(None, found))
    return lags, seconds, sum(result is not None for result in found)


class Collections:
    """Takes the time of each full garbage collection of this process, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0
        gc.callbacks.append(self._step)

    def _step(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        elif info["generation"] == 2:
            self.seconds.append(time.monotonic() - self._began)


def seconds_of_triggerer() -> float:
    """Return the seconds of a full garbage collection of a process with Airflow's triggerer alone."""
    code = "import gc, time, airflow.jobs.triggerer_job_runner; gc.collect(); b = time.monotonic(); gc.collect(); "
    found = subprocess.run(
        [sys.executable, "-c", f"{code}print('seconds', time.monotonic() - b)"], capture_output=True, check=True
    )
    return float(found.stdout.split()[-1])


def measured(count: int, megabytes: float) -> dict[str, Any]:
    content = executed(megabytes)
    with tempfile.TemporaryDirectory() as folder, EmulatorProcess(Path(folder, "data")) as emulator:
        os.environ.update(emulator.exports)
        runs = Path(folder, "data", "cloudstorage", BUCKET, "runs")
        for number in range(count):
            path = runs / f"j{number}" / "content.ipynb"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        before, collections = time.process_time(), Collections()
        lags, seconds, read = asyncio.run(lags_of(count))
        cpu = time.process_time() - before
    ordered = sorted(lags)
    return {
        "notebooks": count,
        "megabytes": len(content) / 1e6,
        "read": read,
        "seconds": seconds,
        "cpu_ms": 1000 * cpu / count,
        "lag_p50_ms": 1000 * statistics.median(ordered),
        "lag_p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        "lag_max_ms": 1000 * ordered[-1],
        "collection_max_ms": 1000 * max(collections.seconds, default=0.0),
        "collection_of_triggerer_ms": 1000 * seconds_of_triggerer(),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    keeper.start()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reading", description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", type=int, default=200, metavar="N")
    parser.add_argument("--megabytes", type=float, default=1.0, metavar="MB")
    options = parser.parse_args()
    found = measured(options.notebooks, options.megabytes)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(found, indent=1))
    print("{read} of {notebooks} notebooks of {megabytes:.1f} MB read in {seconds:.1f} s".format(**found))
    print("CPU of a notebook {cpu_ms:.0f} ms; memory of the process at most {rss_mb:.0f} MB".format(**found))
    print("event loop late: p50 {lag_p50_ms:.1f} ms, p99 {lag_p99_ms:.1f} ms, max {lag_max_ms:.1f} ms".format(**found))
    print(
        "full garbage collection: at most {collection_max_ms:.1f} ms;"
        " {collection_of_triggerer_ms:.1f} ms in Airflow's triggerer alone".format(**found)
    )


if __name__ == "__main__":
    main()
