"""What is accepted as a notebook, and what is said of anything else."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import nbformat
import pytest

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.notebook.parameters import parameterize
from airflow_provider_nbjob.notebook.source import read_notebook
from tests.support.notebooks import code, notebook
from tests.support.paths import NOTEBOOKS

SCRIPT = """\
# %% [markdown]
# # A report

# %% tags=["parameters"]
day = "2024-01-01"

# %%
# %matplotlib inline
raise SystemExit(day)
"""


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_valid_notebook_is_read_as_it_stands(path: Path):
    assert read_notebook(path) == path.read_bytes()
    assert read_notebook(path.read_bytes()) == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "the notebook is not JSON: Expecting value"),
        (notebook(code("1"))[:-9], "the notebook is not JSON: "),
        (b"\n<!DOCTYPE html><html></html>", "is not JSON but a page of HTML or XML"),
        (b"\xef\xbb\xbf<html>", "is not JSON but a page of HTML or XML"),
        pytest.param(gzip.compress(notebook()), "is gzip-compressed; give it uncompressed", id="gzip"),
        (b"[1]", "is JSON but no notebook: it has no list of cells"),
        (notebook(cells={}), "is JSON but no notebook: it has no list of cells"),
        (notebook(nbformat=3, worksheets=[], cells=...), "is of notebook format 3; the API runs format 4"),
        (notebook(nbformat=3), "is of notebook format 3; the API runs format 4"),
        (notebook(nbformat="4"), "is of notebook format '4'; the API runs format 4"),
        (notebook(metadata=...), "is no valid notebook: required is violated at ."),
        (notebook(code("1", cell_type="poem")), r"is no valid notebook: oneOf is violated at .cells\[0\]"),
        (
            notebook(None, nbformat_minor=5),
            "is no valid notebook: a cell, its metadata, or nbformat_minor is not of the",
        ),
        (b"[" * 100_000, "its JSON is nested too deep"),
        (notebook(metadata={"n": 0}).replace(b'"n": 0', b'"n": ' + b"9" * 5000), "is not JSON: Exceeds the limit"),
    ],
)
def test_anything_else_is_named(content: bytes, rule: str):
    with pytest.raises(InvalidJob, match=rule):
        read_notebook(content)


def test_a_file_is_named_and_its_content_is_not_quoted(tmp_path: Path):
    path = tmp_path / "n.ipynb"
    with pytest.raises(InvalidJob, match=r"n\.ipynb': there is no such file"):
        read_notebook(path)
    path.write_text("secret = 1")
    with pytest.raises(InvalidJob, match=r"n\.ipynb' is not JSON") as caught:
        read_notebook(path)
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidJob, match="cannot be read: Is a directory"):
        read_notebook(tmp_path)


def test_a_script_in_cells_becomes_a_notebook_and_is_not_run(tmp_path: Path):
    path = tmp_path / "report.py"
    path.write_text(SCRIPT)
    content = read_notebook(path)
    document = nbformat.reads(content.decode(), as_version=4)
    nbformat.validate(document)
    assert [cell.cell_type for cell in document.cells] == ["markdown", "code", "code"]
    assert document.cells[1].metadata.tags == ["parameters"]
    assert document.cells[2].source.startswith("%matplotlib inline\n")
    assert document.metadata.kernelspec.name == "python3"
    assert read_notebook(path) == content, "the same script is the same notebook"
    assert parameterize(content, {"day": "x", "other": 1}).unknown == ["other"]


def test_a_job_is_submitted_with_the_script_as_a_notebook(tmp_path: Path):
    path = tmp_path / "report.py"
    path.write_text(SCRIPT)
    spec = NotebookExecutionJobSpec(
        location="us-central1",
        display_name="d",
        direct_notebook_source=path,
        notebook_runtime_template_resource_name="t",
        gcs_output_uri="gs://bucket/runs",
        service_account="sa@p.iam.gserviceaccount.com",
    ).validated()
    assert json.loads(spec.to_api("p")["direct_notebook_source"]["content"])["nbformat"] == 4


def test_a_script_keeps_the_kernel_that_it_names(tmp_path: Path):
    path = tmp_path / "report.py"
    path.write_text(
        "# ---\n# jupyter:\n#   made: 2024-01-01\n"
        "#   kernelspec:\n#     name: my-env\n#     display_name: Mine\n# ---\n# %%\n1\n"
    )
    assert json.loads(read_notebook(path))["metadata"]["kernelspec"]["name"] == "my-env"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"print(1)\n", "is a Python script without cells; a line '# %%' begins each cell"),
        (b"# %%\n'\xff'", "is not a text in UTF-8: invalid start byte at byte 6"),
        (b"# ---\n# jupyter:\n#   kernelspec: 3\n# ---\n# %%\n1\n", "is no script in percent format"),
        (b"# %% tags=5\n1\n", "is no script in percent format"),
    ],
)
def test_a_script_that_is_no_notebook_is_named(tmp_path: Path, content: bytes, rule: str):
    path = tmp_path / "report.py"
    path.write_bytes(content)
    with pytest.raises(InvalidJob, match=rule):
        read_notebook(path)


def test_what_a_script_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.py"
    path.write_text(SCRIPT)
    monkeypatch.setitem(sys.modules, "jupytext", None)
    with pytest.raises(InvalidJob, match=r"pip install 'airflow-provider-nbjob\[scripts\]'"):
        read_notebook(path)
