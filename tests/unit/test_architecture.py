"""Who may know whom (the rooms of the package), and what importing a DAG's modules costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "airflow_provider_nbjob"
OURS = PACKAGE.name
PURE = {"exceptions", "job", "names", "notebook", "record", "spec"}

# room: prefixes of modules that it must not import, wherever in a module the import stands
FORBIDDEN = {
    **dict.fromkeys(PURE, ("airflow", "google", "grpc", f"{OURS}.hooks", f"{OURS}.emulator")),
    **dict.fromkeys(("tries", "weather"), ("airflow", "google", "grpc", f"{OURS}.hooks", f"{OURS}.emulator")),
    "rendering": (
        *("airflow", "google", "grpc"),
        *(
            f"{OURS}.{path.stem}"
            for path in PACKAGE.iterdir()
            if path.stem not in ("rendering", "notebook", "exceptions")
        ),
    ),
    "adoption": ("airflow", "google", "grpc", f"{OURS}.operators", f"{OURS}.triggers", f"{OURS}.emulator"),
    "conclusion": ("airflow", "google", "grpc", f"{OURS}.operators", f"{OURS}.triggers", f"{OURS}.emulator"),
    "stopping": ("google", "grpc", f"{OURS}.operators", f"{OURS}.triggers", f"{OURS}.emulator"),
    "failures": ("google", "grpc", f"{OURS}.hooks", f"{OURS}.emulator"),
    "lazy_hook": ("airflow", "google", "grpc", f"{OURS}.emulator"),
    "masking": ("google", "grpc", OURS),
    "get_provider_info": ("airflow", "google", OURS),
    "links": ("google", "grpc", f"{OURS}.hooks", f"{OURS}.operators", f"{OURS}.emulator"),
    "operators": ("google", "grpc", f"{OURS}.emulator"),
    "sensors": ("google", "grpc", f"{OURS}.operators", f"{OURS}.emulator"),
    "triggers": ("google", "grpc", f"{OURS}.operators", f"{OURS}.sensors", f"{OURS}.links", f"{OURS}.emulator"),
    "plugins": (
        "google",
        "grpc",
        "nbconvert",
        f"{OURS}.operators",
        f"{OURS}.sensors",
        f"{OURS}.triggers",
        f"{OURS}.emulator",
    ),
    "hooks": (f"{OURS}.operators", f"{OURS}.sensors", f"{OURS}.triggers", f"{OURS}.links", f"{OURS}.emulator"),
    "emulator": (
        "airflow",
        *(f"{OURS}.{room}" for room in ("hooks", "operators", "sensors", "triggers", "links", "spec", "notebook")),
    ),
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            yield pytest.param(room, path, id=str(path.relative_to(PACKAGE)))


def imports(path: Path, *, only_at_import: bool = False):
    """The modules that a file imports; not those under TYPE_CHECKING."""
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            nodes += node.orelse
        elif not (only_at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            nodes += ast.iter_child_nodes(node)


def is_below(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize(("room", "path"), modules())
def test_a_room_imports_only_what_it_may_know(room, path):
    assert room in FORBIDDEN, f"{room} is a new room: say here what it may know"
    broken = [m for m in imports(path) if is_below(m, FORBIDDEN[room]) and not is_below(m, ("airflow_provider_nbjob",))]
    ours = [m for m in imports(path) if is_below(m, (OURS,)) and is_below(m, FORBIDDEN[room])]
    assert not broken + ours


@pytest.mark.parametrize(
    "room",
    [
        "operators",
        "sensors",
        "triggers",
        "links",
        "plugins/notebook_jobs",
        "lazy_hook.py",
        "adoption.py",
        "conclusion.py",
        "stopping.py",
    ],
)
def test_the_hook_is_imported_only_when_it_is_used(room):
    for path in [PACKAGE / room] if room.endswith(".py") else (PACKAGE / room).glob("*.py"):
        assert not [m for m in imports(path, only_at_import=True) if is_below(m, (f"{OURS}.hooks",))]


def test_only_hooks_and_the_emulator_import_google():
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(is_below(m, ("google", "grpc")) for m in imports(path))
    }
    assert importers <= {"hooks", "emulator"}


def test_only_plugins_know_the_rendering_of_notebooks():
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(is_below(m, (f"{OURS}.rendering",)) for m in imports(path))
    }
    assert importers <= {"rendering", "plugins"}


def test_the_check_itself_sees_a_broken_rule(tmp_path):
    path = tmp_path / "m.py"
    path.write_text("if TYPE_CHECKING:\n    import grpc\ndef f():\n    from google import auth\n")
    assert list(imports(path)) == ["google.auth"]
    assert list(imports(path, only_at_import=True)) == []


def test_parsing_a_dag_loads_nothing_heavy():
    """The modules that the example DAGs import, over Airflow's own: none of Google, gRPC, notebooks, pandas."""
    script = """
import json, sys
from airflow.sdk import DAG
import airflow.providers.common.compat.sdk
before = set(sys.modules)
import airflow_provider_nbjob.operators.notebook_execution_job
import airflow_provider_nbjob.sensors.notebook_execution_job
import airflow_provider_nbjob.triggers.notebook_execution_job
import airflow_provider_nbjob.links.notebook_execution_job
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"}
    )
    loaded = json.loads(run.stdout.splitlines()[-1])
    notebooks = ("nbformat", "papermill", "jupytext", "ijson")
    heavy = ("google", "grpc", *notebooks, "pandas", "airflow.providers.google", f"{OURS}.hooks")
    assert [m for m in loaded if is_below(m, heavy)] == []
    assert f"{OURS}.spec" in loaded
