"""`make demo`: run the example DAG `example_notebook_job` on the emulator, with no cloud at all.

It starts the emulator, and runs the DAG through `airflow dags test`. It shows the job's states as they change, the
XCom, and the path of the executed notebook. At the end, also on failure or Ctrl-C, it stops all that it started. It
writes below `.demo/` of the checkout only. Its exit status is not 0 if the DAG run fails.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import signal
import subprocess
import sys
import time

from processes import CHECKOUT, Processes, examples_environment, migrate, read_exports, say, start_emulator

DEMO = CHECKOUT / ".demo"
DAG_ID = "example_notebook_job"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# The lines of Airflow's log that a person wants to see; the whole log is in a file.
SHOWN = re.compile(
    r"(Notebook job \S+ (?:is|ended as) JOB_STATE_\w+|Submitted notebook job \S+|Reason: .*|"
    r"The executed notebook shows where: \S+|\b(?:InvalidJob|JobFailed|JobExpired|JobLost|ApiError)\b.*)"
)


def main() -> int:
    """Run the demo, and return the exit status of the DAG run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", default="daily_report.ipynb", help="a file of example_dags/notebooks")
    notebook = parser.parse_args().notebook
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with Processes() as processes:
            emulator = start_emulator(processes, DEMO)
            environment = examples_environment(read_exports(emulator, DEMO), DEMO)
            migrate(processes, environment, DEMO)
            say(f"running DAG {DAG_ID} with notebook {notebook}")
            status = run_dag(processes, notebook, environment)
    except KeyboardInterrupt:
        say("interrupted")
        status = 130
    say(f"{'the DAG run succeeded' if status == 0 else 'the DAG run FAILED'} after {time.monotonic() - started:.0f} s")
    return status


def run_dag(processes: Processes, notebook: str, environment: dict[str, str]) -> int:
    """Run the DAG, show the lines of its log that matter, and return its exit status."""
    log = DEMO / "airflow.log"
    command = ["airflow", "dags", "test", DAG_ID, "--conf", json.dumps({"notebook": notebook})]
    dag_test = processes.start(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert dag_test.stdout is not None
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
    """Print the path of the executed notebook, and write its plots beside it."""
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


if __name__ == "__main__":
    sys.exit(main())
