"""What `make dist` makes: an sdist with all that the project has, and a wheel that works with each extra alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import metadata
from pathlib import Path

import pytest

from airflow_provider_nbjob import __version__
from scripts.revision import git
from tests.support.paths import CHECKOUT
from tests.support.patience import patient

NAME = f"airflow_provider_nbjob-{__version__}"
BIN = Path(sys.executable).parent
in_a_clone = pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="only git knows what belongs to the project")
INSTALL_SECONDS, USE_SECONDS = 900, 180
OPERATOR = """
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
CreateNotebookExecutionJobOperator(
    task_id="t", location="us-central1", gcs_notebook_source="gs://bucket/n.ipynb", gcs_output_uri="gs://bucket/runs",
    notebook_runtime_template_resource_name="t", service_account="a@p.iam.gserviceaccount.com", deferrable=True,
)
"""
R = {"kernelspec": {"name": "ir", "language": "R"}}
NOTEBOOK = repr(json.dumps({"cells": [], "metadata": R, "nbformat": 4, "nbformat_minor": 5}).encode())
# One call of what each extra is for. Without an extra: what every DAG does.
USES = {
    "": OPERATOR,
    "bench": "import airflow.providers.databricks.operators.databricks as m; m.DatabricksNotebookOperator",
    "docs": (
        "from pathlib import Path; from mkdocs.__main__ import cli\n"
        "Path('docs').mkdir(); Path('docs/index.md').write_text('# A page')\n"
        "Path('mkdocs.yml').write_text('site_name: n\\ntheme: material\\nplugins: [mkdocstrings]\\n')\n"
        "cli(['build', '--strict'], standalone_mode=False); assert Path('site/index.html').exists()"
    ),
    "emulator": "from airflow_provider_nbjob.emulator.__main__ import main; main(['--help'])",
    "examples": "import matplotlib.pyplot as plot; plot.plot([1, 2]); plot.savefig('plot.png')",
    "openlineage": "from airflow_provider_nbjob.lineage.events import lineage_of; assert lineage_of",
    "parameters": (
        "from airflow_provider_nbjob.notebook.parameters import parameterize\n"
        f"assert b'x = 1' in parameterize({NOTEBOOK}, {{'x': 1}}).content"
    ),
    "production": "import celery, psycopg2, redis; from airflow.providers.celery.executors.celery_executor import *",
    "scripts": (
        "from pathlib import Path; from airflow_provider_nbjob.notebook.source import read_notebook\n"
        "Path('n.py').write_text('# %%\\nprint(1)\\n'); assert b'print(1)' in read_notebook(Path('n.py'))"
    ),
    "testing": (
        "from pathlib import Path; import pytest\n"
        "Path('pytest.ini').write_text('[pytest]\\n')\n"
        "Path('test_it.py').write_text('def test_it(nbjob_emulator):\\n    assert nbjob_emulator.jobs() == []\\n')\n"
        "assert pytest.main(['-c', 'pytest.ini', '--confcutdir=.', '-p', 'no:cacheprovider', 'test_it.py']) == 0"
    ),
    "test": "import pytest; assert pytest.main(['--version']) == 0",
    "ui": (
        "from airflow_provider_nbjob.rendering.renderer import render\n"
        f"assert b'<html' in render({NOTEBOOK}, theme='dark', timeout=150).lower()"
    ),
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """What `make dist` makes, elsewhere than in the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("MAKE")}
    run = subprocess.run(
        ["make", "dist", f"DIST={folder}", f"BIN={BIN}", "--old-file=.venv/installed"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert run.stdout.count("PASSED") == 2
    return folder


def tracked(*below: str) -> set[str]:
    """Return the files of the project."""
    return set(filter(None, git("ls-files", "-z", "--cached", "--others", "--exclude-standard", *below).split("\0")))


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    return dist / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def description(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return BytesParser().parsebytes(archive.read(f"{NAME}.dist-info/METADATA"))


@in_a_clone
def test_the_sdist_has_all_files_of_the_project(dist):
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        packed = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert packed - {"PKG-INFO"} == tracked()


@in_a_clone
def test_the_wheel_has_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.startswith(f"{NAME}.dist-info/")}
    package = "airflow_provider_nbjob"
    assert packed == tracked(package)
    assert f"{package}/py.typed" in packed


def test_the_description_links_to_the_files_of_its_version(description):
    text = description.get_payload()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
    tag = re.compile(
        rf"https://[^/]+/airflow-provider-nbjob/airflow-provider-nbjob/(?:blob/)?v{re.escape(__version__)}/([^#]+)"
    )
    ours = [match[1] for link in links if (match := tag.match(link))]
    assert len(ours) > 10
    assert [path for path in ours if not (CHECKOUT / path).exists()] == []
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(images) == text.count("![") > 0
    assert all(image.startswith("https://raw.githubusercontent.com/") for image in images)


def test_the_metadata(description):
    assert description["License-Expression"] == "Apache-2.0"
    assert set(description.get_all("License-File")) == {"LICENSE", "NOTICE"}
    urls = dict(line.split(", ") for line in description.get_all("Project-URL"))
    assert set(urls) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())


def test_each_extra_has_a_use():
    assert set(metadata("airflow-provider-nbjob").get_all("Provides-Extra")) | {""} == set(USES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Packages that are downloaded once for all extras."""
    return tmp_path_factory.mktemp("uv")


@pytest.mark.timeout(INSTALL_SECONDS + USE_SECONDS)
@pytest.mark.parametrize("extra", USES)
def test_the_wheel_works_with_an_extra_alone(wheel, cache, tmp_path, extra):
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "UV_CACHE_DIR": str(cache)}
    environment.pop("PYTHONPATH", None)
    python = tmp_path / "venv" / "bin" / "python"

    def run(*command: object, seconds: float) -> None:
        run = subprocess.run(
            [*map(str, command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patient(seconds),
        )
        assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-4000:]}"

    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "venv", seconds=60)
    wanted = f"airflow-provider-nbjob{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"
    constraints = CHECKOUT / "constraints.txt"
    run(
        *(BIN / "uv", "pip", "install", "--quiet", "--python", python, "--constraint", constraints, wanted),
        seconds=INSTALL_SECONDS,
    )
    for program in dict.fromkeys((OPERATOR, USES[extra])):
        run(python, "-I", "-c", program, seconds=USE_SECONDS)
    shutil.rmtree(tmp_path / "venv")
