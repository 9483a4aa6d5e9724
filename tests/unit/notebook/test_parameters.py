"""Parameters: which can be passed, and where in a notebook they come to stand."""

from __future__ import annotations

import ast
import datetime as dt
import enum
import json
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import nbformat
import pytest

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.notebook.parameters import parameterize, problems_of
from tests.support.notebooks import code, notebook
from tests.support.paths import NOTEBOOKS


def cells_of(content: bytes) -> list[dict[str, Any]]:
    return json.loads(content)["cells"]


def injected(content: bytes) -> list[tuple[int, str]]:
    """Position and source of the cells that assign parameters."""
    return [
        (index, cell["source"])
        for index, cell in enumerate(cells_of(content))
        if "injected-parameters" in cell["metadata"].get("tags", [])
    ]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: Any = {}
    value["self"] = [value]
    return value


def doubled(times: int) -> Any:
    value: Any = []
    for _ in range(times):
        value = [value, value]
    return value


GOOD = {
    "none": None,
    "yes": True,
    "_number": -1,
    "ratio": float("nan"),
    "text": '"""\\\n',
    "many": [1, (2, {"": {"a b": []}})],
    "day": dt.date(2024, 2, 29),
    "moment": dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc),
    "clock": dt.time(23, 59),
    "ordered": OrderedDict(a=1),
    "größe": nested(64),
    "match": 1,
}


def test_what_json_has_and_dates_can_be_passed():
    assert problems_of(GOOD) == []
    assert problems_of({}) == []


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (None, "parameters: None is not a mapping of names to values"),
        ([("a", 1)], "parameters: [('a', 1)] is not a mapping of names to values"),
        ({1: 2}, "parameters[1]: 1 is not a name that a notebook can assign to"),
        ({"a b": 2}, "parameters['a b']: 'a b' is not a name that a notebook can assign to"),
        ({"x\n": 2}, "parameters['x\\n']: 'x\\n' is not a name that a notebook can assign to"),
        ({"class": 2}, "parameters['class']: 'class' is not a name that a notebook can assign to"),
        ({"None": 2}, "parameters['None']: 'None' is not a name that a notebook can assign to"),
        (
            {"m": {"fn": len}},
            "parameters['m']['fn']: <built-in function len> is of type builtin_function_or_method, which",
        ),
        ({"m": [0, {1}]}, "parameters['m'][1]: {1} is of type set, which cannot be passed: pass a list"),
        ({"m": (b"x",)}, "parameters['m'][0]: b'x' is of type bytes, which cannot be passed: pass a text"),
        (
            {"m": Decimal(1)},
            "parameters['m']: Decimal('1') is of type Decimal, which cannot be passed: None, booleans,",
        ),
        ({"m": dt.timedelta(1)}, "which cannot be passed: pass its total_seconds()"),
        ({"m": {1: 2}}, "parameters['m']: its key 1 is of type int; keys are texts"),
        ({"m": 1j}, "is of type complex, which cannot be passed"),
        ({"m": 10**9000}, "parameters['m']: a number of 29898 bits; at most 14000 can be passed"),
        ({"m": nested(65)}, "]: lists and dicts in each other deeper than 64"),
        ({"m": nested(5000)}, "]: lists and dicts in each other deeper than 64"),
        ({"m": endless()}, "parameters['m']['self'][0]: contains itself, which cannot be passed"),
        pytest.param(
            {"m": doubled(60)}, "parameters: more than 200000 values cannot be passed", marks=pytest.mark.test_all
        ),
    ],
)
def test_what_cannot_be_passed_is_named_with_its_path(parameters: Any, problem: str):
    (found,) = problems_of(parameters)
    assert problem in found
    with pytest.raises(InvalidJob) as caught:
        parameterize(notebook(), parameters)
    assert caught.value.problems == [found]


def test_all_problems_are_found_and_none_quotes_a_huge_value():
    huge = {f"p{number}": {"x" * 10_000: b"y" * 10_000} for number in range(1000)}
    problems = problems_of({"1": 1, "a": {1}, "b": [2, {3}], **huge})
    assert [problem.split(":")[0] for problem in problems[:3]] == [
        "parameters['1']",
        "parameters['a']",
        "parameters['b'][1]",
    ]
    assert problems[-1] == "parameters: and 983 more like these"
    assert max(map(len, problems)) < 250


def test_nothing_heavy_is_imported_before_parameters_are_written():
    script = "import sys; from airflow_provider_nbjob.notebook import parameters, executed, results, report, source\n"
    script += "parameters.problems_of({'a': [1]})\n"
    script += "print(sorted({'papermill', 'nbformat', 'jupytext', 'ijson'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "at", "language"),
    [
        ("tagged", 2, "python"),
        ("untagged", 0, "python"),
        ("injected", 1, "python"),
        ("without_ids", 1, "python"),
        ("colab", 1, "python"),
        ("r_language", 1, "R"),
        ("bash_language", 1, "bash"),
    ],
)
def test_the_cell_stands_where_papermill_puts_it(name: str, at: int, language: str):
    before = (NOTEBOOKS / f"{name}.ipynb").read_bytes()
    done = parameterize(before, {"day": "2024-03-01"}, origin="gs://b/n.ipynb")
    assert done.language == language
    ((index, source),) = injected(done.content)
    assert index == at
    assert source.startswith("# Parameters\nday")
    document = json.loads(done.content)
    nbformat.validate(document)
    assert document["metadata"].pop("nbjob") == {"source": "gs://b/n.ipynb", "parameters": {"day": "2024-03-01"}}
    original = json.loads(before)
    original["cells"] = [
        cell for cell in original["cells"] if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    del document["cells"][at]
    assert document == original, "everything else stays as it is"


def test_a_cell_has_an_id_where_the_format_has_them_and_it_is_free():
    without = parameterize((NOTEBOOKS / "without_ids.ipynb").read_bytes(), {"alpha": 1}).content
    assert [cell for cell in cells_of(without) if "id" in cell] == []
    taken = [code(id="injected-parameters"), code(id="injected-parameters-2")]
    content = parameterize(notebook(*taken, nbformat_minor=5), {"a": 1}).content
    assert cells_of(content)[0]["id"] == "injected-parameters-3"


def test_parameterizing_again_replaces_what_was_injected():
    once = parameterize((NOTEBOOKS / "tagged.ipynb").read_bytes(), {"day": "a", "limit": 1}).content
    twice = parameterize(once, {"day": "b"}).content
    assert injected(twice) == [(2, '# Parameters\nday = "b"')]
    assert len(cells_of(twice)) == len(cells_of(once))
    assert parameterize(twice, {"day": "b"}).content == twice, "the same job is the same notebook"


def test_an_injected_cell_without_a_tagged_one_is_replaced_where_it_stands():
    old = [code("first"), code("x = 0", tags=("injected-parameters",)), code("x = 1", tags=("injected-parameters",))]
    assert injected(parameterize(notebook(*old), {"x": 2}).content) == [(1, "# Parameters\nx = 2")]


@pytest.mark.parametrize(
    ("source", "unknown"),
    [
        ("a = 1\nb, (c, *d) = f(a=2)\ne: int = 3\ng: str", ["zz"]),
        (["a = b = c = 1\n", "for d in []: pass\n", "with x as e:\n", "    g = 1"], ["zz"]),
        ("%matplotlib inline\n!ls\nif a:\n    %time x\na.b, a[0] = (c := 1), x", ["a", "b", "d", "e", "g", "zz"]),
        (
            "def a():\n    b = 1\nclass c:\n    d = 1\n[e for e in x]\nf = lambda: (g := 1)",
            ["a", "b", "c", "d", "e", "g", "zz"],
        ),
        ("", ["a", "b", "c", "d", "e", "g", "zz"]),
        ("this is no Python", []),
        ("a = \0", []),
        ("(" * 10_000, []),
        (7, []),
    ],
)
def test_parameters_that_the_tagged_cell_does_not_assign_are_unknown(source: Any, unknown: list[str]):
    content = notebook(code("zz = 1"), code(source, tags=("parameters",)), code("zz = 1", tags=("parameters",)))
    assert parameterize(content, dict.fromkeys(["a", "b", "c", "d", "e", "g", "zz"])).unknown == unknown


def test_without_a_tagged_cell_or_in_another_language_nothing_is_unknown():
    assert parameterize(notebook(code("a = 1")), {"b": 1}).unknown == []
    assert parameterize((NOTEBOOKS / "r_language.ipynb").read_bytes(), {"b": 1}).unknown == []


@pytest.mark.parametrize(
    ("metadata", "kernel_name", "language"),
    [
        ({}, None, "python"),
        ({"kernelspec": {"name": "python3"}}, None, "python"),
        ({"kernelspec": {"name": "conda-root-py", "language": "python"}}, None, "python"),
        ({"language_info": {"name": "python"}}, "my-kernel", "python"),
        ({"kernelspec": {"name": "ir", "display_name": "R"}}, None, "R"),
        ({"kernelspec": {"language": "r"}}, None, "R"),
        ({"language_info": {"name": "R"}, "kernelspec": {"language": "python"}}, None, "R"),
        ({"kernelspec": {"name": "julia-1.11"}}, None, "julia"),
        ({"language_info": {"name": "scala"}}, None, "scala"),
        ({"language_info": {"name": "python"}}, "ir", "R"),
        ({"language_info": [], "kernelspec": {"name": 3}}, None, "python"),
        ({}, "python3", "python"),
    ],
)
def test_the_language_is_that_of_the_kernel_that_will_run(metadata, kernel_name, language):
    assert parameterize(notebook(metadata=metadata), {}, kernel_name=kernel_name).language == language


@pytest.mark.parametrize(
    ("metadata", "kernel_name", "named"),
    [
        ({"language_info": {"name": "matlab"}}, None, "'matlab'"),
        ({"kernelspec": {"name": "my-env"}}, None, "'my-env'"),
        ({}, "rust", "'rust'"),
    ],
)
def test_an_unknown_language_is_named_with_those_that_are_known(metadata, kernel_name, named):
    with pytest.raises(InvalidJob, match=f"is {named}; parameters can be passed in python, R, julia, scala, bash"):
        parameterize(notebook(metadata=metadata), {"a": 1}, kernel_name=kernel_name)


def test_what_parameters_need_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "airflow_provider_nbjob.notebook.languages", raising=False)
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(InvalidJob, match=r"pip install 'airflow-provider-nbjob\[parameters\]'"):
        parameterize(notebook(), {"a": 1})


def test_the_metadata_shows_the_parameters_as_json_and_cut():
    shown = {**GOOD, "surrogate": "\ud800", "long": "x" * 5000}
    metadata = json.loads(parameterize(notebook(), shown).content, parse_constant=pytest.fail)["metadata"]["nbjob"]
    assert list(metadata) == ["parameters"]
    parameters = metadata["parameters"]
    assert parameters["ratio"] == "nan"
    assert parameters["day"] == "2024-02-29"
    assert parameters["surrogate"] == "\\ud800"
    assert parameters["many"] == [1, [2, {"": {"a b": []}}]]
    assert len(parameters["long"]) < 1010


def test_subclasses_come_as_what_they_are():
    class Color(enum.IntEnum):
        RED = 3

    class Loud(str):
        def __str__(self):
            return "LOUD"

    ((_, source),) = injected(parameterize(notebook(), {"a": Color.RED, "b": Loud("quiet")}).content)
    assert source == '# Parameters\na = 3\nb = "quiet"'
    assert ast.parse(source)


def test_a_source_that_is_no_notebook_is_named():
    with pytest.raises(InvalidJob, match=r"^'gs://b/n\.ipynb' is not JSON but a page of HTML"):
        parameterize(b"<html>", {"a": 1}, origin="gs://b/n.ipynb")
    with pytest.raises(InvalidJob, match="its metadata is no object"):
        parameterize(notebook(metadata=[]), {"a": 1})
    assert parameterize(notebook(code("1"), metadata=...), {"a": 1}).language == "python"
