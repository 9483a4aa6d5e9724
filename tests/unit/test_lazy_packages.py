"""The notebook service is loaded alone, and whoever uses the whole package finds it as ever, before and after."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import pytest

from airflow_provider_nbjob.lazy_packages import lazy_packages
from tests.support.paths import NOTEBOOKS
from tests.support.patience import patient

OURS = "from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob, NotebookServiceClient"
# What a package shows of itself: every name in it, with the module and the name of what it stands for.
DESCRIBE = """
import json, sys
def describe(package):
    return {
        name: f"{getattr(value, '__module__', None)} {getattr(value, '__name__', None)} {type(value).__name__}"
        for name, value in ((name, getattr(package, name)) for name in dir(package) if not name.startswith("__"))
    }
"""


def run(script: str):
    """Run a script in a process of its own, and return what it printed as JSON."""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.test_all
@pytest.mark.parametrize("package", ["google.cloud.aiplatform_v1", "google.cloud.aiplatform_v1.types"])
def test_the_whole_package_is_as_ever_after_ours(package):
    show = f"import {package}\nprint(json.dumps([describe({package}), {package}.__all__, {package}.__file__]))"
    plain = run(DESCRIBE + show)
    assert len(plain[1]) > 100
    after = run(DESCRIBE + OURS + "\n" + show)
    ours = {"gapic_version", "services", "types", "_compat"}  # submodules, which ours may have bound already
    assert {k: v for k, v in after[0].items() if k not in ours} == {k: v for k, v in plain[0].items() if k not in ours}
    assert after[1:] == plain[1:]


@pytest.mark.test_all
@pytest.mark.parametrize(
    "theirs",
    [
        "from google.cloud import aiplatform_v1; found = aiplatform_v1.NotebookServiceClient",
        "from google.cloud.aiplatform_v1 import *; found = NotebookServiceClient",
        "import google.cloud.aiplatform_v1 as v1; found = v1.services.notebook_service.NotebookServiceClient",
        "import airflow.providers.google.cloud.hooks.vertex_ai.custom_job\n"
        "from google.cloud.aiplatform_v1 import NotebookServiceClient as found",
    ],
)
def test_others_get_the_same_classes_after_ours(theirs):
    assert run(f"""
{OURS}
{theirs}
assert found is NotebookServiceClient
import google.cloud.aiplatform_v1.types as types
assert types.NotebookExecutionJob is NotebookExecutionJob
print(types.CustomJob(display_name="x").display_name == "x" and "true")
""")


def test_ours_are_the_classes_of_a_package_that_was_loaded_whole():
    assert run(f"""
import google.cloud.aiplatform_v1 as whole
names = dir(whole)
{OURS}
assert whole.NotebookServiceClient is NotebookServiceClient and dir(whole) == names
print("true")
""")


def test_ours_loads_no_other_service():
    loaded = run(f"{OURS}\nimport sys, json\nprint(json.dumps([m for m in sys.modules if 'aiplatform' in m]))")
    services = {name.split(".")[4] for name in loaded if name.startswith("google.cloud.aiplatform_v1.services.")}
    assert services == {"notebook_service"}
    assert len(loaded) < 60
    assert "google.cloud.aiplatform_v1.__init__" not in loaded


PARAMETERS = "from airflow_provider_nbjob.notebook.languages import TRANSLATORS"


def test_parameters_load_nothing_that_executes_notebooks():
    loaded = run(f"{PARAMETERS}\nimport sys, json\nprint(json.dumps(list(sys.modules)))")
    assert {name for name in loaded if name.startswith("papermill")} == {
        *("papermill", "papermill.exceptions", "papermill.models", "papermill.translators"),
    }
    assert not {"nbclient", "aiohttp", "jupyter_client", "zmq", "pandas"} & set(loaded)


def test_papermill_executes_notebooks_after_ours():
    assert run(f"""
import json
{PARAMETERS}
import papermill
from papermill.translators import PythonTranslator
assert issubclass(TRANSLATORS["python"], PythonTranslator)
prepared = papermill.execute_notebook({str(NOTEBOOKS / "tagged.ipynb")!r}, None, {{"day": "today"}}, prepare_only=True)
print(json.dumps(any('day = "today"' in cell.source for cell in prepared.cells)))
""")


def test_it_can_be_turned_off():
    turned_off = "import json, os, sys; os.environ['NBJOB_LAZY_PACKAGES'] = '0'\n"
    loaded = run(f"{turned_off}{OURS}\nprint(json.dumps(list(sys.modules)))")
    assert "google.cloud.aiplatform_v1.services.job_service" in loaded


@pytest.mark.test_all
@pytest.mark.parametrize("head_start", [-0.05, 0, 0.05, 0.3])
def test_another_thread_may_load_the_whole_package_meanwhile(head_start):
    """Plain imports of a package, and of a module in it, at once fail both; `head_start` is the package's."""
    theirs = "from google.cloud.aiplatform_v1 import NotebookServiceClient"
    assert run(f"""
import json, threading, time
import airflow_provider_nbjob.lazy_packages, google.api_core.gapic_v1
found = []
def load(way, delay):
    names = {{}}
    time.sleep(max(0, delay))
    exec(way, names)
    found.append(names["NotebookServiceClient"])
ways = [({OURS!r}, {head_start}), ({theirs!r}, {-head_start})]
threads = [threading.Thread(target=load, args=way, daemon=True) for way in ways]
for thread in threads: thread.start()
for thread in threads: thread.join({patient(60)})
print(json.dumps([len(found), len(set(found))]))
""") == [2, 1]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose `__init__` counts its runs, below a folder on the path; its name."""
    name = "a_package_on_demand"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(
        "import builtins\nbuiltins.nbjob_runs = getattr(builtins, 'nbjob_runs', 0) + 1\n"
        "from .part import VALUE\nfrom . import part as alias\n__all__ = ['VALUE', 'OWN']\n"
        "__version__ = '7'\nOWN = __name__\n"
    )
    (tmp_path / name / "part.py").write_text("VALUE = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("builtins.nbjob_runs", 0, raising=False)
    yield name
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


def test_the_init_runs_once_and_only_when_it_is_asked_for(package):
    import builtins
    import importlib

    with lazy_packages(package):
        part = importlib.import_module(f"{package}.part")
    module = sys.modules[package]
    assert (part.VALUE, module.part, builtins.nbjob_runs) == (1, part, 0)
    assert not hasattr(module, "__wrapped__")  # as inspect, doctest and unittest ask of any module
    assert builtins.nbjob_runs == 0
    assert module.__version__ == "7"
    assert (module.VALUE, module.alias, module.__all__) == (1, part, ["VALUE", "OWN"])
    assert builtins.nbjob_runs == 1
    assert type(module) is ModuleType
    assert module.__spec__.loader is module.__loader__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018
    importlib.reload(module)
    assert package == module.OWN


def test_the_names_of_a_package_are_those_its_init_defines(package):
    import importlib

    with lazy_packages(package):
        importlib.import_module(f"{package}.part")
    assert {"VALUE", "OWN", "alias", "part"} <= set(dir(sys.modules[package]))


def test_an_import_that_fails_leaves_nothing_behind(package):
    before = list(sys.meta_path)
    with pytest.raises(ModuleNotFoundError), lazy_packages(package, "no_such_package"):
        __import__("no_such_package.part")
    assert sys.meta_path == before


def test_a_package_that_was_loaded_before_stays_as_it_is(package):
    whole = __import__(package)
    with lazy_packages(package):
        assert __import__(f"{package}.part") is whole
    assert type(whole) is ModuleType
    assert package == whole.OWN
