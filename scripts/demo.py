"""`make demo`: run the example DAG `example_notebook_job` on the emulator, with no cloud at all.

Starts the emulator, runs the DAG through `airflow dags test`, shows the job's states as they change, the XCom, and
where the executed notebook is, and stops what it started, also on failure or Ctrl-C. Everything it writes is below
`.demo/` of the checkout. Ends non-zero where the DAG run fails.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
DEMO = CHECKOUT / ".demo"
BUCKET = "nbjob-examples"
DAG_ID = "example_notebook_job"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What of Airflow's log a person wants to see; the whole log is kept beside it.
SHOWN = re.compile(
    r"(Notebook job \S+ (?:is|ended as) JOB_STATE_\w+|Submitted notebook job \S+|Reason: .*|"
    r"The executed notebook shows where: \S+|\b(?:InvalidJob|JobFailed|JobExpired|JobLost|ApiError)\b.*)"
)


def main() -> int:
    """Run the demo; the exit status is that of the DAG run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", default="daily_report.ipynb", help="a file of example_dags/notebooks")
    notebook = parser.parse_args().notebook
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    emulator = start_emulator()
    try:
        environment = airflow_environment(read_exports(emulator))
        migrate(environment)
        say(f"running DAG {DAG_ID} with notebook {notebook}")
        status = run_dag(notebook, environment)
    except KeyboardInterrupt:
        say("interrupted")
        status = 130
    finally:
        stop(emulator)
    say(f"{'the DAG run succeeded' if status == 0 else 'the DAG run FAILED'} after {time.monotonic() - started:.0f} s")
    return status


def say(message: str) -> None:
    """Print a line of progress."""
    print(f"== {message}", flush=True)


def start_emulator() -> subprocess.Popen[str]:
    """Start the emulator on free ports, with the example notebooks in its Cloud Storage."""
    say("starting the emulator")
    DEMO.mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "airflow_provider_nbjob.emulator"),
        *("--grpc-port", "0", "--rest-port", "0", "--storage-port", "0"),
        *("--data-dir", str(DEMO / "emulator")),
        *("--upload", f"{CHECKOUT / 'example_dags' / 'notebooks'}=gs://{BUCKET}/notebooks"),
    ]
    log = (DEMO / "emulator.log").open("w")
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, cwd=CHECKOUT
    )


def read_exports(emulator: subprocess.Popen[str]) -> dict[str, str]:
    """Read what the emulator prints until it serves: the variables that lead its clients to it."""
    exports: dict[str, str] = {}
    assert emulator.stdout is not None
    for line in emulator.stdout:
        if line.strip() == "ready":
            return exports
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value.strip("'")
    raise SystemExit(f"The emulator did not start; see {DEMO / 'emulator.log'}")


def airflow_environment(exports: dict[str, str]) -> dict[str, str]:
    """The environment of Airflow: a home of its own below the checkout, and the emulator's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **kept,
        **exports,
        "AIRFLOW_HOME": str(DEMO / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NBJOB_EXAMPLE_BUCKET": BUCKET,
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONWARNINGS": "ignore",
    }


def migrate(environment: dict[str, str]) -> None:
    """Make Airflow's SQLite database."""
    say("preparing Airflow's database")
    with (DEMO / "airflow-db.log").open("w") as log:
        run = subprocess.run(["airflow", "db", "migrate"], env=environment, stdout=log, stderr=subprocess.STDOUT)
    if run.returncode:
        raise SystemExit(f"airflow db migrate failed; see {DEMO / 'airflow-db.log'}")


def run_dag(notebook: str, environment: dict[str, str]) -> int:
    """Run the DAG and show what matters of its log; its exit status."""
    log = DEMO / "airflow.log"
    command = ["airflow", "dags", "test", DAG_ID, "--conf", json.dumps({"notebook": notebook})]
    dag_test = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert dag_test.stdout is not None
    try:
        xcom: list[str] = []
        shown = ""
        with log.open("w") as copy:
            for raw in dag_test.stdout:
                copy.write(raw)
                line = ANSI.sub("", raw.rstrip())
                if (match := SHOWN.search(line)) and match[0] != shown:
                    shown = match[0]
                    print(f"   {shown}", flush=True)
                collect_xcom(line, xcom)
        status = dag_test.wait()
    finally:
        stop(dag_test)
    if xcom:
        print("   " + "\n   ".join(xcom))
        show_notebook(json.loads("".join(xcom[1:])))
    say(f"Airflow's whole log: {log.relative_to(CHECKOUT)}")
    return status


def collect_xcom(line: str, xcom: list[str]) -> None:
    """Gather the lines that the DAG's task `report` prints: the XCom as JSON."""
    if not xcom and "XCom of run_notebook:" in line:
        xcom.append("XCom of run_notebook:")
        line = line.partition("XCom of run_notebook:")[2].strip()
    if xcom and xcom[-1] != "}" and (text := re.sub(r"^\S*\[?.*?\] *(?=[{}\" ])", "", line)):
        xcom.append(text)


def show_notebook(result: dict[str, object]) -> None:
    """Say where on this disk the executed notebook is, and put its plot beside it."""
    uri = str(result["output_notebook_uri"])
    path = DEMO / "emulator" / "cloudstorage" / uri.removeprefix("gs://")
    notebook = json.loads(path.read_text())
    say(f"executed notebook: {path.relative_to(CHECKOUT)}")
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    plots = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    for number, plot in enumerate(plots, 1):
        picture = path.with_name(f"{path.stem}-plot{number}.png")
        picture.write_bytes(base64.b64decode(plot))
        say(f"its plot:          {picture.relative_to(CHECKOUT)}")


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that this script started, and all that it started in turn."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
