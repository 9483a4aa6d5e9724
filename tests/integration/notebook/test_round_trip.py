"""Parameters come out of a real kernel as they went in."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
import random
from base64 import b64decode
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import nbformat
import pytest
from bash_kernel.install import main as install_bash_kernel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

from airflow_provider_nbjob.notebook.parameters import parameterize, problems_of
from airflow_provider_nbjob.notebook.source import read_notebook
from tests.support.notebooks import KERNEL_LIMITS
from tests.support.paths import NOTEBOOKS

pytestmark = pytest.mark.test_all

CET = ZoneInfo("Europe/Berlin")
KNOWN: list[Any] = [
    *(None, True, False, 0, -1, 2**64, -(10**4000), 0.0, -0.0, 1e-320, 1.7e308, math.inf, -math.inf, math.nan),
    *(
        "",
        '"',
        "'",
        '"""',
        "'''",
        "\\",
        "\\\\",
        "\\n",
        "\n",
        "\r\n",
        "\0",
        "\x1b[31m",
        "\u2028",
        "é漢😀",
        "\ud800",
        "\udfff",
    ),
    *("$x ${x} $(ls) `ls`", "{x} {{x}} #{x} %x %s", "!ls", "%%bash\nls", "x?", "?", "# -*- coding: x -*-", "\u202eabc"),
    *("x" * 1_000_000, '"\\\n' * 50_000, "é" * 100_000, " lead and trail ", "\t", "\N{BOM}"),
    *([], {}, (), [[]], [()], ((),), (1,), ({},), {"": {"": []}}, {"a b": [None, (True, {"\ud800": math.nan})]}),
    *({'"""\\': '"""\\'}, [1, [2, [3, (4, [5])]]], list(range(10_000)), {str(n): [n] for n in range(1000)}),
    *(dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.time(0), dt.time(23, 59, 59, 999999), dt.time(1, fold=1)),
    *(dt.datetime(2024, 2, 29, 1, 2, 3, 4), dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc)),
    *(dt.datetime(2024, 10, 27, 2, 30, tzinfo=CET), dt.datetime(2024, 10, 27, 2, 30, tzinfo=CET, fold=1)),
    *(dt.time(1, 2, tzinfo=dt.timezone(-dt.timedelta(hours=3, minutes=30, microseconds=1))), dt.time(3, tzinfo=CET)),
    [{"when": dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))}],
]
TEXTS = st.text(st.characters(codec=None, exclude_categories=())) | st.text(st.sampled_from("\"'\\\n\r{}$#%!? \0u"))
ZONES = st.none() | st.just(dt.timezone.utc) | st.just(CET) | st.builds(
    lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)), st.integers(-1439, 1439)
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.dates()
    | st.times(timezones=ZONES) | st.datetimes(timezones=ZONES),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner) | st.tuples(inner, inner),
)  # fmt: skip


def deep(depth: int) -> Any:
    value: Any = {"end": 1}
    for level in range(depth - 1):
        value = [value] if level % 2 else {"in": value}
    return value


def generated(number: int) -> list[Any]:
    """Values that hypothesis makes, each time others."""
    found: list[Any] = []

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(VALUES)
    def gather(value: Any) -> None:
        found.append(value)

    gather()
    return found


def run(content: bytes, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook; as executed."""
    notebook = nbformat.reads(content.decode(), as_version=4)
    return NotebookClient(
        notebook,
        **KERNEL_LIMITS,
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def same(value: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types all through; NaN is NaN, and -0.0 not 0.0."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return list(value) == list(other) and all(same(value[key], other[key]) for key in value)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, float):
        return repr(value) == repr(other)
    if isinstance(value, dt.time | dt.datetime):
        return value == other and value.replace(tzinfo=None) == other.replace(tzinfo=None) and value.fold == other.fold
    return bool(value == other)


def test_values_come_out_of_python_as_they_went_in(tmp_path: Path):
    values = [*KNOWN, deep(64), *generated(100)]
    parameters = {f"p{number}": value for number, value in enumerate(values)}
    assert problems_of(parameters) == []
    show = """import base64, pickle
print(base64.b64encode(pickle.dumps([globals()[f"p{n}"] for n in range(COUNT)])).decode())"""
    cells = [nbformat.v4.new_code_cell(show.replace("COUNT", str(len(values))))]
    content = parameterize(nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode(), parameters).content
    executed = run(read_notebook(content), tmp_path)
    (output,) = executed.cells[1].outputs
    returned = pickle.loads(b64decode(output.text))
    assert len(returned) == len(values) > 100
    assert [(value, other) for value, other in zip(values, returned, strict=True) if not same(value, other)] == []


@pytest.mark.parametrize(
    ("name", "parameters", "printed", "unknown"),
    [
        ("tagged", {"day": "2024-03-01", "limit": 7}, "2024-03-01 emea 7\n", []),
        ("injected", {"day": 'a"b'}, 'a"b 100\n', []),
        ("without_ids", {"alpha": 0.25, "alfa": 1}, "0.25\n", ["alfa"]),
        ("colab", {"epochs": (1, None)}, "(1, None)\n", []),
    ],
)
def test_notebooks_made_for_papermill_run_with_their_parameters(tmp_path, name, parameters, printed, unknown):
    done = parameterize((NOTEBOOKS / f"{name}.ipynb").read_bytes(), parameters)
    assert done.unknown == unknown
    assert run(done.content, tmp_path).cells[-1].outputs[0].text == printed


def test_values_come_out_of_bash_as_they_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install_bash_kernel(["--prefix", str(tmp_path)])
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    # No control characters but newline and tab: the kernel types what it runs into a terminal.
    hostile = [
        "",
        "it's",
        '"$HOME" `ls` $(ls) \\ \\n',
        "a\nb",
        " x  y ",
        "é漢😀",
        "*",
        "-n",
        "!!",
        "#",
        "~",
        "x" * 3000,
        "%",
    ]
    printable = "".join(map(chr, range(32, 127)))
    hostile += ["".join(random.Random(seed).choices(printable, k=40)) for seed in range(50)]
    parameters = {"name": hostile[1], "count": 42, "words": hostile, "none": None, "yes": True}
    content = (NOTEBOOKS / "bash_language.ipynb").read_bytes()
    done = parameterize(content, parameters)
    assert done.language == "bash"
    notebook = json.loads(done.content)
    notebook["cells"][-1]["source"] = (
        """printf '%s\\0' "$name" "$count" "$none" "$yes" "${words[@]}" | base64 -w 0 > out"""
    )
    run(json.dumps(notebook).encode(), tmp_path)
    *found, end = b64decode((tmp_path / "out").read_bytes()).decode().split("\0")
    assert found == [hostile[1], "42", "", "true", *hostile]
    assert end == ""
