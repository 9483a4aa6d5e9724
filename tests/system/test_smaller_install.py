"""An install without what the Google provider needs for other services runs a notebook, deferrable too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from scripts.processes import examples_environment
from tests.support.emulator_process import example_emulator
from tests.support.paths import CHECKOUT
from tests.support.patience import patient

OVERRIDES = CHECKOUT / "docs" / "how-to" / "smaller-install.txt"
BIN = Path(sys.executable).parent
INSTALL_SECONDS, RUN_SECONDS = 900, 300


def named(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()


def overridden() -> dict[str, str]:
    """What the file says of each package, by its name."""
    lines = [line.partition("#")[0].strip() for line in OVERRIDES.read_text().splitlines()]
    return {named(line): line for line in lines if line}


def test_it_leaves_out_what_the_google_provider_requires_and_this_package_does_not():
    def required(by: str) -> set[str]:
        return {named(line) for line in requires(by) or [] if "extra ==" not in line}

    left_out = {name for name, line in overridden().items() if "python_version < '3'" in line}
    assert len(left_out) > 40
    assert left_out <= required("apache-airflow-providers-google") - required("airflow-provider-nbjob")
    assert overridden().keys() - left_out == {"google-cloud-aiplatform"}
    assert overridden()["google-cloud-aiplatform"] in (requires("airflow-provider-nbjob") or [])


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS)
def test_a_deferrable_task_runs(tmp_path_factory, tmp_path):
    def run(*command: object, seconds: float, **environment: str) -> str:
        run = subprocess.run(
            [*map(str, command)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=patient(seconds),
        )
        assert run.returncode == 0, f"{run.stdout[-4000:]}\n{run.stderr[-4000:]}"
        return run.stdout

    venv = tmp_path / "venv"
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv, seconds=60)
    options = ["--constraint", CHECKOUT / "constraints.txt", "--override", OVERRIDES]
    run(
        *(BIN / "uv", "pip", "install", "--quiet", "--no-cache", "--python", venv / "bin" / "python", *options),
        f"{CHECKOUT}[parameters]",
        seconds=INSTALL_SECONDS,
    )
    installed = run(BIN / "uv", "pip", "freeze", "--python", venv / "bin" / "python", seconds=60)
    assert {"ray", "pandas", "scikit-learn", "google-ads"}.isdisjoint(map(named, installed.splitlines()))
    airflow = venv / "bin" / "airflow"
    with example_emulator(tmp_path_factory, "smaller_install") as emulator:
        environment = examples_environment(emulator.exports, tmp_path)
        run(airflow, "db", "migrate", seconds=RUN_SECONDS, **environment)
        printed = run(airflow, "dags", "test", "example_notebook_job", seconds=RUN_SECONDS, **environment)
    assert "is JOB_STATE_SUCCEEDED" in printed
    assert "Executed notebook: gs://" in printed
