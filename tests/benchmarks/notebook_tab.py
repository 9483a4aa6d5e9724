"""What the tab of a task costs with a notebook of 5 MB: `python -m tests.benchmarks.notebook_tab`.

The routes of the API server, in this process; the API and the bucket are the emulator, in another. Airflow's database
is stood in for: its three queries take a millisecond each. Times are of the server, for the tab and its notebook
together: the first look, with nothing in the caches, and the looks after it.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import statistics
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from scripts.processes import BUCKET
from tests.support import keeper
from tests.support.emulator_process import EmulatorProcess
from tests.support.paths import CHECKOUT

LOCATION = "us-central1"
QUERY = "dag_id=d&run_id=r&task_id=t"
CODE = "import pandas as pd\n\nfor day in pd.date_range(start, end):\n    print(day, load(day).describe())\n"


def notebook(megabytes: float) -> str:
    """An executed notebook of about so many megabytes: plots, tables, text; its last cell failed."""
    chance = random.Random(1)
    cells = []
    rows = "".join(f"<tr><td>{n}</td><td>{n * 1.5:.2f}</td><td>north</td></tr>" for n in range(500))
    while sum(len(str(cell)) for cell in cells) < megabytes * 1e6:
        plot = base64.b64encode(chance.randbytes(60_000)).decode()
        outputs = [
            new_output("stream", text="2026-01-01 12 rows read from north\n" * 300),
            new_output("display_data", data={"image/png": plot, "text/plain": "<Figure>"}),
            new_output("execute_result", data={"text/html": f"<table>{rows}</table>", "text/plain": "rows"}),
        ]
        cells += [new_markdown_cell(f"## Part {len(cells)}\n\nSome *text*."), new_code_cell(CODE, outputs=outputs)]
    error = new_output("error", ename="KeyError", evalue="'west'", traceback=["KeyError: 'west'"])
    return nbformat.writes(new_notebook(cells=[*cells, new_code_cell("rows['west']", outputs=[error])]))


def job_with_output(hook, emulator: EmulatorProcess, content: str):
    """A job that has ended, whose executed notebook is replaced by this one."""
    name = hook.create_notebook_execution_job(
        location=LOCATION,
        job={
            "display_name": "benchmark",
            "gcs_notebook_source": {"uri": f"gs://{BUCKET}/notebooks/failing.ipynb"},
            "notebook_runtime_template_resource_name": (
                f"projects/emulator-project/locations/{LOCATION}/notebookRuntimeTemplates/t"
            ),
            "gcs_output_uri": f"gs://{BUCKET}/runs",
            "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        },
    )
    job = hook.wait_for_notebook_execution_job(name=name, poll_interval=0.3)
    hook.files.upload_notebook(content.encode(), hook.files.find_output_notebook(job))
    return job


def task_of(job):
    """What Airflow's database would hold of the task that ran the job."""
    from airflow_provider_nbjob.job.record import parse_record
    from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
    from airflow_provider_nbjob.plugins.notebook_jobs.task_data import WAY, TaskData, TaskTry

    now = datetime.now(timezone.utc)
    fields = {**dict.fromkeys(WAY), "location": LOCATION, "gcp_conn_id": "google_cloud_default"}
    fields["notebook_execution_job_id"] = job.name.rpartition("/")[2]  # it is the task's own
    record = parse_record({"name": job.name, "project_id": "emulator-project", "try_number": 1})
    return TaskData(TaskRef("d", "r", "t"), (TaskTry(1, "failed", now, now),), now, record, fields)


def measure(task, looks: int) -> tuple[list[float], list[float]]:
    """Seconds of first looks, and of looks again."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from airflow_provider_nbjob.plugins.notebook_jobs import task_page
    from airflow_provider_nbjob.plugins.notebook_jobs.app import app
    from airflow_provider_nbjob.plugins.notebook_jobs.authorization import Reader, readable_task, reader_of
    from airflow_provider_nbjob.plugins.notebook_jobs.notebooks import Outcomes
    from airflow_provider_nbjob.plugins.notebook_jobs.ttl_cache import TTLCache

    client = TestClient(app)
    reader = Reader("somebody", xcoms=True, logs=True)
    app.dependency_overrides = {get_user: lambda: None, readable_task: lambda: task.ref, reader_of: lambda: reader}

    def look() -> float:
        started = time.perf_counter()
        for path in ("task", "notebook"):
            answer = client.get(f"/{path}?{QUERY}")
            assert answer.status_code == 200, answer.text
        return time.perf_counter() - started

    first, again = [], []
    with mock.patch.object(task_page, "_load", return_value=task):
        look()  # loads Google's clients, once in a process
        for _ in range(looks):
            task_page._outcomes, task_page._documents = Outcomes(), TTLCache(max_bytes=2**26)
            task_page._views = TTLCache(max_bytes=2**20, seconds=0)
            first.append(look())
            again += [look() for _ in range(5)]
    return first, again


def main() -> None:
    keeper.start()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=5.0, help="of the notebook")
    parser.add_argument("--looks", type=int, default=5, help="first looks; each is followed by five more")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        upload = f"{CHECKOUT / 'example_dags' / 'notebooks'}=gs://{BUCKET}/notebooks"
        with EmulatorProcess(Path(folder) / "emulator", "--cleanup-delay", "0", "--upload", upload) as emulator:
            os.environ.update(emulator.exports)
            from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

            content = notebook(options.megabytes)
            job = job_with_output(NotebookExecutionJobHook(), emulator, content)
            first, again = measure(task_of(job), options.looks)
    print(f"the tab with a notebook of {len(content) / 1e6:.1f} MB, ms of server time")
    for what, seconds in (("first look", first), ("again", again)):
        print(f"  {what:<11} median {statistics.median(seconds) * 1000:6,.0f}   most {max(seconds) * 1000:6,.0f}")


if __name__ == "__main__":
    main()
