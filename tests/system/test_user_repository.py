"""A user's repository with a DAG and its tests: the wheel is installed with the extra `testing`, and they pass."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT
from tests.support.user_sessions import run_session

REPOSITORY = CHECKOUT / "tests" / "user_repository"
UV = Path(sys.executable).with_name("uv")
# -I leaves out the working directory, which is the checkout.
INSTALLED = """
import json
from importlib.util import find_spec
kernels = [name for name in ("ipykernel", "nbclient") if find_spec(name)]
print(json.dumps({"kernels": kernels, "is_wheel": "site-packages" in find_spec("airflow_provider_nbjob").origin}))
"""


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the interpreter of a virtual environment that has the wheel, and not the checkout."""
    run(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "wheel")
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    installed = tmp_path / "venv" / "bin" / "python"
    run(
        *(UV, "pip", "install", "--quiet", "--python", installed, "--constraint", CHECKOUT / "constraints.txt"),
        *(f"airflow-provider-nbjob[testing] @ {wheel.as_uri()}", "pytest-xdist"),
    )
    return installed


@pytest.mark.timeout(1200)  # Airflow is installed anew
def test_its_tests_pass_with_the_wheel_and_without_kernels(python: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY, repository)
    assert json.loads(run(python, "-I", "-c", INSTALLED)) == {"kernels": [], "is_wheel": True}
    outcomes, printed = run_session(repository, "--numprocesses", "2", python=str(python), seconds=300)
    assert outcomes == dict.fromkeys(
        (
            "test_a_bad_model_is_not_published",
            "test_nothing_is_published_if_the_notebook_fails",
            "test_a_good_model_is_published",
        ),
        "passed",
    ), printed
