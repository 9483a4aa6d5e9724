"""Whatever stands in place of a notebook or a parameter: the only errors are ours."""

from __future__ import annotations

import copy
import io
import json
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_nbjob.exceptions import InvalidJob, NotebookUnreadable
from airflow_provider_nbjob.notebook.executed import read_executed
from airflow_provider_nbjob.notebook.parameters import parameterize, problems_of
from airflow_provider_nbjob.notebook.report import failure_report, output_lines
from airflow_provider_nbjob.notebook.results import collect_results
from airflow_provider_nbjob.notebook.source import read_notebook
from tests.support.notebooks import code, display, error, notebook, result, scrap, stream
from tests.support.paths import NOTEBOOKS

NAMES = """cells metadata tags outputs source nbformat data name scrapbook result parameters code error python id
    text/plain application/json traceback injected-parameters"""
WORDS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=15,
)
EXECUTED = notebook(
    code(["a = 1\n", "b"], stream(["x\n", "y"]), tags=("parameters",)),
    code("", scrap("a", {"b": [1]}), scrap("c", "AAAA", "pandas"), result({"text/plain": "1"}), tags=("result:a",)),
    code("", display({"image/png": "AAAA", "application/json": {"a": 1}}), tags=("result", "injected-parameters")),
    code("x", error("KeyError", "x", "\x1b[31ma", "b"), tags=("raises-exception",), id="x"),
    {"cell_type": "markdown", "metadata": {}, "source": "# A"},
    metadata={"kernelspec": {"name": "python3", "language": "python"}, "language_info": {"name": "python"}},
)
DOCUMENTS = [EXECUTED, *(path.read_bytes() for path in sorted(NOTEBOOKS.glob("*.ipynb")))]
fuzzed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers of a document with each of their keys."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [(value, key) for key, _ in items] + [place for _, item in items for place in places(item)]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A notebook, of which a few places hold something else, or nothing."""
    document = json.loads(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(places(document)))
        if draw(st.booleans()):
            container[key] = draw(JSON)
        elif isinstance(container, dict):
            container[draw(WORDS)] = copy.deepcopy(container.pop(key))
        else:
            container.insert(0, copy.deepcopy(container[key]))
        if not places(document):
            break
    return json.dumps(document).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A notebook of which bytes are missing or changed."""
    content = bytearray(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 20))] = draw(st.binary(max_size=6))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


CONTENTS = mutated() | damaged() | st.binary() | JSON.map(lambda value: json.dumps(value).encode())
CONTENTS |= JSON.map(lambda value: notebook(value, value)) | JSON.map(lambda value: notebook(code("", value)))


@given(CONTENTS)
@fuzzed
def test_whatever_is_read_as_executed(content: bytes):
    with suppress(NotebookUnreadable):
        executed = read_executed(io.BytesIO(content), keep_outputs=True)
        json.dumps(collect_results(executed)._asdict(), allow_nan=False).encode()
        for cell in executed.cells:
            "\n".join(failure_report(executed, cell)).encode()
        "\n".join(output_lines(executed)).encode()


@given(CONTENTS)
@fuzzed
def test_whatever_is_submitted(content: bytes):
    with suppress(InvalidJob):
        assert read_notebook(content) == content


@given(CONTENTS, st.sampled_from([None, "ir", "python3"]))
@fuzzed
def test_whatever_is_parameterized(content: bytes, kernel_name: str | None):
    with suppress(InvalidJob):
        done = parameterize(content, {"a": 1, "b": ["x"]}, kernel_name=kernel_name, origin="gs://b/n.ipynb")
        assert sum(cell.get("source", "") != "" for cell in json.loads(done.content)["cells"] if isinstance(cell, dict))
        assert json.loads(parameterize(done.content, {"a": 1, "b": ["x"]}, kernel_name=kernel_name).content)


@given(CONTENTS)
@fuzzed
def test_a_valid_notebook_stays_valid_with_parameters(content: bytes):
    with suppress(InvalidJob):
        done = parameterize(read_notebook(content), {"a": 1}, kernel_name="python3")
        assert read_notebook(done.content)


THINGS = st.recursive(
    JSON
    | st.dates()
    | st.datetimes()
    | st.binary()
    | st.decimals()
    | st.complex_numbers()
    | st.just(len)
    | st.timedeltas(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.builds(lambda value: {1, str(value)}, inner)
    ),
)


@given(THINGS | st.dictionaries(st.text() | st.integers() | WORDS, THINGS))
@settings(fuzzed, max_examples=40)
def test_whatever_is_passed(parameters: Any):
    problems = problems_of(parameters)
    assert all(problem.startswith("parameters") and len(problem) < 1000 for problem in problems)
    with suppress(InvalidJob):
        parameterize(EXECUTED, parameters)
        assert problems == []
        return
    assert problems
