"""The matrix: the tests with every version that the package claims, and with the wheel instead of the checkout.

A session is a cell of `scripts/compatibility.py`, named as it is: ``nox --session 3.1-lowest-direct-py3.10``. Its
arguments are the parts of the tests to run: ``-- unit airflow``; by default all. A part that has passed, here or as
`docs/compatibility.json` says, is not run again while the wheel is the same, unless ``again`` is among the arguments.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from functools import cache, partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nox

CHECKOUT = Path(__file__).resolve().parent
sys.path.insert(0, str(CHECKOUT))

from scripts.compatibility import CELLS, PARTS, PROJECT, RESULTS, WORKS_WITH, Cell, floors, recorded  # noqa: E402
from scripts.revision import commit, git, is_unchanged_since  # noqa: E402

nox.options.default_venv_backend = "uv"
nox.options.envdir = str(RESULTS / "environments")
nox.options.error_on_missing_interpreters = False
nox.needs_version = ">=2025.2.9"

PACKAGE = "airflow_provider_nbjob"
WHEEL = (PACKAGE, "pyproject.toml")  # what it is made of
TESTS = {
    # Those of the record are left out, because a cell is to renew it.
    "unit": ["tests/unit", "-m", "not test_all", "--ignore=tests/unit/test_compatibility.py"],
    "integration": ["tests/integration", "-m", "not test_all"],
    "airflow": ["tests/system", "-m", "every_airflow"],
}
# pyenv's commands for other versions than its current one only print an error.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
os.environ["UV_PYTHON_DOWNLOADS"] = "never"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without byte-code Airflow's imports take more than twice as long


@cache
def interpreter(python: str) -> str | None:
    """Return the path of a minor version of Python, or None if this machine has none."""
    candidates = [*sorted(PYENV.glob(f"{python}.*/bin/python{python}")), shutil.which(f"python{python}")]
    for path in filter(None, candidates):
        run = subprocess.run([path, "--version"], capture_output=True, text=True)
        if run.returncode == 0 and run.stdout.startswith(f"Python {python}."):
            return str(path)
    return None


@cache
def wheel() -> Path:
    """Build the wheel, once for all cells."""
    folder = RESULTS / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder)], cwd=CHECKOUT, check=True)
    (built,) = folder.glob("*.whl")
    return built


@cache
def newest_patch(airflow: str, python: str) -> str:
    """Return the newest release of a minor version of Airflow, as the package index has it."""
    command = ["uv", "pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate", "--no-emit-index-url"]
    wanted = f"apache-airflow=={airflow}.*\n"
    run = subprocess.run(
        [*command, "--python-version", python, "-"], input=wanted, capture_output=True, text=True, check=True
    )
    return run.stdout.strip().partition("==")[2]


def copy_tests(folder: Path) -> None:
    """Copy all of the checkout but the package, so that only the installed one can be imported."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source = CHECKOUT / name
        if name and not name.startswith(f"{PACKAGE}/") and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def install(session: nox.Session, cell: Cell, folder: Path) -> None:
    """Install the wheel with its test dependencies.

    Dependencies of a wheel are not direct ones for uv, so the project's file is resolved first, and the wheel is
    installed with what came of it.
    """
    pins = [f"apache-airflow=={newest_patch(cell.airflow, cell.python)}"]
    pins += WORKS_WITH.get(cell.airflow, ())
    if cell.resolution == "lowest-direct":
        # uv takes the newest of what is not direct first, and the newest of Airflow's other providers require newer
        # ones of these.
        pins += [f"{name}=={bound}" for name, bound in floors().items() if name.startswith("apache-airflow-providers-")]
    constraints, locked = folder / "constraints.txt", folder / "locked.txt"
    constraints.write_text("\n".join([*pins, ""]))
    resolution = "highest" if cell.resolution == "newest" else cell.resolution
    session.run(
        *("uv", "pip", "compile", "--quiet", "pyproject.toml", "--extra", "test", "--no-header", "--no-annotate"),
        *("--no-emit-index-url", "--python", f"{session.bin}/python", "--resolution", resolution),
        *("--constraint", str(constraints), "--output-file", str(locked)),
        external=True,
        silent=True,
    )
    session.run(
        *("uv", "pip", "install", "--quiet", "--python", f"{session.bin}/python", "--constraint", str(locked)),
        *("--reinstall-package", PROJECT, f"{PROJECT}[test] @ {wheel().as_uri()}"),
        external=True,
    )


def versions(session: nox.Session) -> dict[str, str]:
    """Return the installed versions of the dependencies and of Python, of the package that is not the checkout's."""
    program = (
        f"import json, platform, {PACKAGE}; from importlib.metadata import version; "
        f"print(json.dumps([{PACKAGE}.__file__, platform.python_version(), "
        f"{{name: version(name) for name in {list(floors())}}}]))"
    )
    printed = session.run("python", "-c", program, silent=True, log=False)
    path, python, found = json.loads(str(printed).splitlines()[-1])
    assert "site-packages" in path, f"{PACKAGE} is imported from {path}, not from the wheel"
    return {"python": python, **found}


def counts(report: Path) -> dict[str, int]:
    """Return how many tests passed, failed and were skipped; a part without a report has failed."""
    if not report.exists():
        return {"passed": 0, "failed": 1, "skipped": 0}
    suite = ElementTree.parse(report).getroot().find("testsuite")  # noqa: S314 - pytest wrote it
    assert suite is not None
    total, failed, errors, skipped = (int(suite.get(n, 0)) for n in ("tests", "failures", "errors", "skipped"))
    return {"passed": total - failed - errors - skipped, "failed": failed + errors, "skipped": skipped}


def has_passed(part: dict[str, Any] | None) -> bool:
    """Return whether a part of a cell passed with the wheel that is tested."""
    return part is not None and not part["failed"] and is_unchanged_since(part["commit"], *WHEEL)


def run_cell(cell: Cell, session: nox.Session) -> None:
    """Run a cell, unless a result without a failure is there for this wheel, and write the result."""
    folder = RESULTS / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "result.json"
    if interpreter(cell.python) is None:
        written.write_text(json.dumps({"cell": cell.name, "missing": f"Python {cell.python}"}))
        session.skip(f"this machine has no Python {cell.python}")
    parts = [part for part in PARTS if part in session.posargs] or list(PARTS)
    before = json.loads(written.read_text()) if written.exists() else recorded().get(cell.name, {})
    if "again" not in session.posargs:
        parts = [part for part in parts if not has_passed(before.get("parts", {}).get(part))]
        if not parts:
            session.skip("passed before, with this wheel")
    install(session, cell, folder)
    checkout = folder / "checkout"
    copy_tests(checkout)
    session.chdir(checkout)
    installed = versions(session)
    result = {
        "cell": cell.name,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": installed,
        "parts": before["parts"] if before.get("versions") == installed else {},
    }
    for part in parts:
        report = folder / f"{part}.xml"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        # The faults share one Airflow; more processes would start one each.
        workers = "0" if part == "airflow" else os.environ.get("WORKERS", "3")
        options = ["-p", "no:cacheprovider", "--numprocesses", workers, f"--junitxml={report}"]
        options += ["-o", "junit_family=xunit1"]  # has the properties that the fault matrix gives its tests
        # Another code says that the run did not come to its end, which is no result.
        session.run("python", "-m", "pytest", "-q", *options, *TESTS[part], success_codes=[0, 1])
        seconds = round(time.monotonic() - began)
        result["parts"][part] = {**counts(report), "seconds": seconds, "commit": commit()}
        written.write_text(json.dumps(result, indent=1))
    if failed := [part for part, found in result["parts"].items() if found["failed"]]:
        session.error(f"{cell.name}: {', '.join(failed)} failed")


for made in CELLS:
    run = partial(run_cell, made)
    run.__doc__ = f"Airflow {made.airflow}, {made.resolution} dependencies, Python {made.python}"
    python = interpreter(made.python)
    nox.session(run, name=made.name, python=python or False, venv_backend="uv" if python else "none", reuse_venv=True)
