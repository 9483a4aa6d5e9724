"""Who may know whom (the rooms of the package), and what importing a DAG's modules costs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import PACKAGE

OURS = PACKAGE.name
# The layout: each room, and the rooms that its modules may import, wherever in a module the import stands.
KNOWS = {
    "exceptions": {},
    "names": {"exceptions"},
    "lazy_packages": {},
    "notebook": {"exceptions", "lazy_packages", "names"},
    "job": {"exceptions", "names", "notebook"},
    "outages": {"exceptions"},
    "airflow_compat": {},
    "metrics": {"airflow_compat"},
    "masking": {"airflow_compat"},
    "get_provider_info": {},
    "rendering": {"exceptions", "notebook"},
    "links": {"exceptions", "job"},
    "hooks": {
        "airflow_compat",
        "exceptions",
        "job",
        "lazy_packages",
        "masking",
        "metrics",
        "names",
        "notebook",
        "outages",
    },
    "connection": {"hooks", "names"},
    "lifecycle": {"airflow_compat", "exceptions", "hooks", "job", "links", "masking", "metrics", "names", "notebook"},
    "triggers": {
        *("airflow_compat", "arguments", "connection", "exceptions", "hooks", "job", "lifecycle"),
        *("masking", "metrics", "names", "notebook", "outages"),
    },
    "arguments": {"airflow_compat", "connection", "exceptions", "job", "lifecycle", "names", "notebook"},
    "lineage": {"arguments", "exceptions", "job", "lifecycle", "masking", "names", "notebook"},
    "operators": {
        *("airflow_compat", "arguments", "connection", "exceptions", "hooks", "job", "lifecycle", "lineage", "links"),
        *("masking", "names", "notebook", "triggers"),
    },
    "sensors": {
        *("airflow_compat", "arguments", "connection", "exceptions", "hooks", "job", "lifecycle", "links"),
        *("masking", "metrics", "names", "notebook", "triggers"),
    },
    "plugins": {
        *("connection", "exceptions", "hooks", "job", "lifecycle", "links", "masking", "names", "notebook"),
        "rendering",
    },
    "doctor": {"airflow_compat", "connection", "exceptions", "hooks", "job", "masking", "names"},
    "__main__": {"doctor"},
    "emulator": {"exceptions", "job", "names"},
    "testing": {"emulator", "exceptions", "job"},
}
ROOT = {
    "__main__",
    "airflow_compat",
    "connection",
    "exceptions",
    "get_provider_info",
    "lazy_packages",
    "masking",
    "metrics",
    "names",
    "outages",
}
# What a room may import of others; the rest of it is Python's own, or a small library.
AIRFLOW = {
    *("airflow_compat", "arguments", "doctor", "hooks", "lifecycle", "lineage", "links"),
    *("masking", "operators", "plugins", "sensors", "testing", "triggers"),
}
GOOGLE = {"emulator", "hooks"}
# The modules that may use what is not public API of Airflow. Public are other providers, `airflow.configuration` (by it
# the API server reads options), and what "Public Interface for Airflow 3.0+" in its documentation names.
COMPATIBILITY = {"airflow_compat.py", "plugins/notebook_jobs/airflow_compat.py", "testing/airflow_compat.py"}
PUBLIC_AIRFLOW = (
    *("airflow.__version__", "airflow.configuration", "airflow.plugins_manager", "airflow.providers"),
    *("airflow.sdk", "airflow.timetables.base", "airflow.triggers.base"),
)
NOT_PUBLIC_SDK = ("airflow.sdk._shared", "airflow.sdk.definitions", "airflow.sdk.execution_time")
# Each is used in one module: they are base classes, which must be there when that module is imported.
NOT_PUBLIC_BUT_USED = {
    "arguments/mapping.py": "airflow.sdk.definitions.mappedoperator.OperatorPartial",
    "lifecycle/task_output.py": "airflow.sdk.definitions.xcom_arg.PlainXComArg",
}
# Decisions, in rooms that know Airflow.
PURE = ("lifecycle/tries.py", "lifecycle/recovery.py", "lifecycle/outcome.py", "arguments/templates.py")


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
    assert room in KNOWS, f"{room} is a new room: say here what it may know"
    known = tuple(f"{OURS}.{other}" for other in (room, *KNOWS[room]))
    assert [m for m in imports(path) if is_below(m, (OURS,)) and not is_below(m, known)] == []
    foreign = [
        *([] if room in AIRFLOW and str(path.relative_to(PACKAGE)) not in PURE else ["airflow"]),
        *([] if room in GOOGLE else ["google", "grpc"]),
        *([] if room == "rendering" else ["nbconvert"]),
    ]
    assert [m for m in imports(path) if is_below(m, tuple(foreign))] == []


def test_the_root_holds_what_belongs_to_no_room():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*ROOT, "__init__"}
    assert {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"
    } == KNOWS.keys() - ROOT


def test_nothing_that_a_task_uses_knows_the_command():
    assert {room for room, known in KNOWS.items() if "doctor" in known} == {"__main__"}


def test_no_room_knows_one_that_knows_it():
    assert circles(KNOWS) == []


def test_no_module_imports_one_that_imports_it():
    names = {name_of(path): path for path in PACKAGE.rglob("*.py")}

    def found(path: Path) -> set[str]:
        """Return the modules of the package that a file imports, or imports something of."""
        modules = {imported if imported in names else imported.rpartition(".")[0] for imported in imports(path)}
        return modules & names.keys() - {name_of(path)}

    assert circles({name: found(path) for name, path in names.items()}) == []


def name_of(path: Path) -> str:
    return ".".join((OURS, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def circles(graph) -> list[list[str]]:
    """Return a circle of a graph, as the one list, or nothing."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [error.args[1]]
    return []


@pytest.mark.parametrize(
    "room",
    [
        *("operators", "sensors", "triggers", "links", "lifecycle", "lineage", "arguments"),
        *("plugins/notebook_jobs", "connection.py"),
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


def test_only_compatibility_modules_use_what_is_not_public_api_of_airflow():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        module = str(path.relative_to(PACKAGE))
        used = [m for m in {*imports(path), *named_modules(path)} if is_private_to_airflow(m)]
        if used and module not in COMPATIBILITY:
            found[module] = ", ".join(used)
    assert found == NOT_PUBLIC_BUT_USED


def is_private_to_airflow(module: str) -> bool:
    return is_below(module, ("airflow",)) and (not is_below(module, PUBLIC_AIRFLOW) or is_below(module, NOT_PUBLIC_SDK))


def named_modules(path: Path):
    """Yield the texts in a file that name a module of Airflow, as `import_module` takes them."""
    for node in ast.walk(ast.parse(path.read_text())):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(r"airflow(\.\w+)+", text):
            yield text


def test_only_compatibility_modules_ask_for_versions():
    asked = re.compile(r"AIRFLOW_V_|version_info|importlib\.metadata|packaging\.version")
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if asked.search(path.read_text())}
    assert modules <= {*COMPATIBILITY, "hooks/google_compat.py"}


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
    path.write_text("from airflow.models.dag import DagModel\nfind('airflow._shared.secrets_masker')\n")
    assert all(map(is_private_to_airflow, [*imports(path), *named_modules(path)]))
    assert list(named_modules(path)) == ["airflow._shared.secrets_masker"]
    assert not is_private_to_airflow("airflow.sdk.BaseOperator")


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
    lineage = ("openlineage", "airflow.providers.openlineage", f"{OURS}.lineage.events")
    heavy = ("google", "grpc", *notebooks, *lineage, "pandas", "airflow.providers.google", f"{OURS}.hooks")
    assert [m for m in loaded if is_below(m, heavy)] == []
    assert f"{OURS}.job.spec" in loaded


def test_what_airflow_imports_at_each_of_its_commands_is_light():
    """Airflow 3.2 and later import the module of a provider's commands whichever command runs."""
    script = f"""
import json, sys
import airflow.cli.cli_config
before = set(sys.modules)
import {OURS}.doctor.command_line as command_line
command_line.get_cli_commands()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"}
    )
    loaded = json.loads(run.stdout.splitlines()[-1])
    assert [m for m in loaded if not is_below(m, (OURS,))] == []
    assert [m for m in loaded if is_below(m, (f"{OURS}.hooks", f"{OURS}.job", f"{OURS}.notebook"))] == []


# --- sizes ---

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50  # of its body: a signature of forty documented arguments is no work to read


def lines_of_bodies(tree: ast.Module) -> dict[str, int]:
    """Return the number of lines of each function's body, without its docstring."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            found[node.name] = node.end_lineno - body[0].lineno + 1 if body else 0
    return found


@pytest.mark.parametrize(("room", "module"), modules())
def test_no_module_and_no_function_is_too_long_to_read(room, module):
    text = module.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX
    assert not {name: lines for name, lines in lines_of_bodies(ast.parse(text)).items() if lines > FUNCTION_LINES_MAX}


def test_the_lines_of_a_body_are_counted():
    text = (
        'def f(\n    a,\n):\n    """Doc.\n\n    More.\n    """\n    x = 1\n    def g():\n        pass\n    return x\n'
    )
    assert lines_of_bodies(ast.parse(text)) == {"f": 4, "g": 1}


def test_the_types_ship():
    assert (PACKAGE / "py.typed").exists()
