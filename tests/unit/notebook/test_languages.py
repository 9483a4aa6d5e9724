"""The literals of languages that no test has a kernel of, against those that their manuals give."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.notebook.parameters import parameterize
from tests.support.notebooks import notebook

NAN, INF = float("nan"), float("inf")
HOSTILE = 'a"b\\c\n\té漢😀$x"""\x01'


def statement(language: str, value: Any, name: str = "x") -> str:
    content = notebook(metadata={"language_info": {"name": language}})
    source = json.loads(parameterize(content, {name: value}).content)["cells"][0]["source"]
    comment, _, rest = source.partition("\n")
    assert comment == ("// Parameters" if language == "scala" else "# Parameters")
    return rest


@pytest.mark.parametrize(
    ("language", "value", "expected"),
    [
        ("R", None, "x = NULL"),
        ("R", True, "x = TRUE"),
        ("R", 2**53, "x = 9007199254740992"),
        ("R", -0.0, "x = -0.0"),
        ("R", 1e300, "x = 1e+300"),
        ("R", [NAN, INF, -INF], "x = list(NaN, Inf, -Inf)"),
        ("R", HOSTILE, r'x = "a\"b\\c\n\t\u00e9\u6f22\U0001f600$x\"\"\"\u0001"'),
        ("R", {"a b": (1, "y"), '"': None}, r'x = list("a b" = list(1, "y"), "\"" = NULL)'),
        ("R", dt.date(2024, 2, 29), 'x = "2024-02-29"'),
        ("R", dt.datetime(2024, 2, 29, 1, tzinfo=dt.timezone.utc), 'x = "2024-02-29T01:00:00+00:00"'),
        ("julia", None, "x = nothing"),
        ("julia", True, "x = true"),
        ("julia", 2**100, "x = 1267650600228229401496703205376"),
        ("julia", [NAN, INF, -INF, -0.0], "x = [NaN, Inf, -Inf, -0.0]"),
        ("julia", HOSTILE, r'x = "a\"b\\c\n\t\u00e9\u6f22\U0001f600\$x\"\"\"\u0001"'),
        ("julia", "$(run(`ls`))", r'x = "\$(run(`ls`))"'),
        ("julia", {"$k": (1, "y")}, r'x = Dict("\$k" => [1, "y"])'),
        ("julia", dt.time(1, 2), 'x = "01:02:00"'),
        ("scala", None, "val x = None"),
        ("scala", True, "val x = true"),
        ("scala", [2**31 - 1, 2**31, 2**63 - 1], "val x = Seq(2147483647, 2147483648L, 9223372036854775807L)"),
        ("scala", [2**63, -(2**63)], 'val x = Seq(BigInt("9223372036854775808"), -9223372036854775808L)'),
        ("scala", [NAN, INF, -INF], "val x = Seq(Double.NaN, Double.PositiveInfinity, Double.NegativeInfinity)"),
        ("scala", HOSTILE, r'val x = "a\"b\\c\n\t\u00e9\u6f22\ud83d\ude00$x\"\"\"\u0001"'),
        ("scala", {"k": (1, "y")}, 'val x = Map("k" -> Seq(1, "y"))'),
        ("scala", "a" * 10_001, f'val x = Seq("{"a" * 10_000}", "a").mkString'),
        ("scala", "", 'val x = ""'),
        ("bash", None, "x=''"),
        ("bash", "it's", "x='it'\"'\"'s'"),
        ("bash", [None, True, 1.5, "a b"], "x=('' true 1.5 'a b')"),
    ],
)
def test_a_value_is_the_literal_of_the_language(language: str, value: Any, expected: str):
    assert statement(language, value) == expected


@pytest.mark.parametrize(
    ("language", "value", "problem"),
    [
        ("R", {"k": ["\0"]}, r"parameters\['x'\]\['k'\]\[0\]: a text with a NUL character, which R cannot hold"),
        ("R", [2**53 + 1], r"parameters\['x'\]\[0\]: 9007199254740993 is beyond 2\*\*53"),
        ("R", [{"": 1}], r"parameters\['x'\]\[0\]: an empty key"),
        ("R", "\ud800", r"parameters\['x'\]: a text with half of a surrogate pair, which R cannot hold"),
        ("julia", {"\udfff": 1}, r"parameters\['x'\], key: a text with half of a surrogate pair"),
        ("scala", ["\ud800"], r"parameters\['x'\]\[0\]: a text with half of a surrogate pair"),
        ("bash", {"a": 1}, r"parameters\['x'\]: a dict, which bash cannot hold; pass its JSON as a text"),
        ("bash", [[1]], r"parameters\['x'\]\[0\]: a list in a list"),
        ("bash", "\0", r"parameters\['x'\]: a text with a NUL character"),
    ],
)
def test_a_value_that_the_language_cannot_hold_is_refused_by_name(language: str, value: Any, problem: str):
    with pytest.raises(InvalidJob, match=problem):
        statement(language, value)


@pytest.mark.parametrize(
    ("language", "name"),
    [("R", "_x"), ("R", "function"), ("julia", "end"), ("scala", "val"), ("bash", "UID"), ("bash", "é")],
)
def test_a_name_that_the_language_does_not_have_is_refused(language: str, name: str):
    with pytest.raises(InvalidJob, match=rf"parameters\['{name}'\]: '{name}' cannot be a name in {language}"):
        statement(language, 1, name)
    assert statement("python", 1, name) == f"{name} = 1"
