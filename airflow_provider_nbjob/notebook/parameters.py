"""Parameters of a notebook, by papermill's convention: a cell that assigns them, after the one tagged `parameters`.

Values come out in the notebook's kernel as they went in: None, booleans, numbers (NaN and infinities too), texts,
lists, tuples, dicts with texts as keys, and in Python dates, times and datetimes. Other languages get dates as text in
ISO 8601, tuples as lists, and bash has texts and flat lists of texts only (None is the empty text).
"""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any, NamedTuple

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.notebook.limits import RESERVED, is_name, problems_in
from airflow_provider_nbjob.notebook.secrets import FIELD as SECRETS_FIELD
from airflow_provider_nbjob.notebook.secrets import TAG as SECRETS_TAG
from airflow_provider_nbjob.notebook.secrets import secrets_cell
from airflow_provider_nbjob.notebook.source import load_notebook
from airflow_provider_nbjob.notebook.values import MAX_VALUES, Plain, TooManyValues, shown

TAG = "parameters"
INJECTED_TAG = "injected-parameters"
METADATA_KEY = "nbjob"
PROBLEMS_SHOWN = 20
DESCRIBED_MAX = 1000  # characters of a value in the notebook's metadata

# Languages of kernels whose notebooks often do not say theirs; a version may follow, as in `julia-1.11`.
_KERNELS = {"ir": "R", "python": "python", "julia": "julia", "scala": "scala", "bash": "bash"}
_MAGIC = re.compile(r"^(\s*)[%!].*", re.MULTILINE)


class Parameterized(NamedTuple):
    """A notebook with its parameters.

    :param content: its JSON
    :param unknown: parameters that the cell tagged `parameters` does not assign; none where there is no such cell, and
        in other languages than Python
    :param language: the language that they are written in
    """

    content: bytes
    unknown: list[str]
    language: str


def problems_of(parameters: Any) -> list[str]:
    """Return what is wrong with parameters whatever the notebook: one text per fault, with the path of the value."""
    return _plain(parameters)[1]


def parameterize(
    content: bytes,
    parameters: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    kernel_name: str | None = None,
    origin: str | None = None,
) -> Parameterized:
    """Put parameters into a notebook.

    A cell tagged `injected-parameters` assigns them. It stands after the first one tagged `parameters`, else where an
    earlier injected one stood, else first; earlier injected ones go. A cell tagged `injected-secret-parameters` after
    it reads the secret ones. Nothing else of the notebook changes but ``metadata["nbjob"]``: ``{"source": origin,
    "parameters": ..., "secret_parameters": ...}``, where values that are no JSON are text, those with more than 1000
    characters are cut, and of secrets there are the resource names.

    :param content: the notebook's JSON; it is not checked against the schema
    :param secrets: resource names of secret versions, by parameter; valid ones, see `full_names`
    :param kernel_name: kernel that will run it, where that is not the notebook's own
    :param origin: where the notebook was read, such as ``gs://bucket/notebook.ipynb``
    :raises InvalidJob: if a value cannot be passed, the notebook is none, its language is not known, or the extra
        `parameters` is missing
    """
    plain, problems = _plain(parameters)
    if problems:
        raise InvalidJob(problems)
    notebook = load_notebook(content, repr(origin) if origin else "the notebook")
    if not isinstance(notebook.setdefault("metadata", {}), dict):
        raise InvalidJob("the notebook is no valid notebook: its metadata is no object")
    language = _language(notebook["metadata"], kernel_name)
    if problems := _shortened(problems_in(language, plain)):
        raise InvalidJob(problems)
    if secrets and language != "python":
        raise InvalidJob(f"{SECRETS_FIELD}: the notebook's language is {language}; secrets can be read in python only")
    unknown = _unknown([*plain, *(secrets or {})], notebook["cells"]) if language == "python" else []
    described: dict[str, Any] = {"source": origin} if origin else {}
    if parameters:
        _inject(notebook, INJECTED_TAG, _statements(language, plain), after=[TAG])
        described["parameters"] = {name: _described(value) for name, value in plain.items()}
    if secrets:
        _inject(notebook, SECRETS_TAG, secrets_cell(secrets), after=[INJECTED_TAG, TAG])
        described[SECRETS_FIELD] = dict(secrets)
    notebook["metadata"][METADATA_KEY] = described
    try:
        return Parameterized(json.dumps(notebook).encode(), unknown, language)
    except RecursionError:
        raise InvalidJob("the notebook is no valid notebook: its JSON is nested too deep") from None


def _plain(parameters: Any) -> tuple[dict[str, Any], list[str]]:
    """Parameters as plain values, and what is wrong with them."""
    if not isinstance(parameters, Mapping):
        return {}, [f"parameters: {shown(parameters)} is not a mapping of names to values"]
    problems: list[str] = []
    values: dict[str, Any] = {}
    plain = Plain()
    try:
        for name, value in parameters.items():
            path = f"parameters[{shown(name)}]"
            if not isinstance(name, str) or not is_name(name):
                problems.append(f"{path}: {shown(name)} is not a name that a notebook can assign to")
            else:
                values[str.__str__(name)] = plain.value(value, path)
    except TooManyValues:
        problems.append(f"parameters: more than {MAX_VALUES} values cannot be passed")
    return values, _shortened(iter(problems + plain.problems))


def _shortened(problems: Iterator[str]) -> list[str]:
    found = list(problems)
    more = len(found) - PROBLEMS_SHOWN
    return found if more <= 0 else [*found[:PROBLEMS_SHOWN], f"parameters: and {more} more like these"]


def _language(metadata: dict[str, Any], kernel_name: str | None) -> str:
    """Return the language that a notebook will run in: that of the kernel asked for, else what the notebook says.

    Python where neither says anything, since the API runs such a notebook with ``python3``.
    """

    def said(part: str, key: str) -> str | None:
        value = metadata.get(part)
        found = value.get(key) if isinstance(value, dict) else None
        return found if isinstance(found, str) and found else None

    own_kernel = said("kernelspec", "name")
    for language in (
        _language_of_kernel(kernel_name),
        said("language_info", "name"),
        said("kernelspec", "language"),
        _language_of_kernel(own_kernel),
    ):
        if language is not None:
            known = {name.lower(): name for name in RESERVED}.get(language.lower())
            break
    else:
        language, known = (kernel_name or own_kernel), None if kernel_name or own_kernel else "python"
    if known is None:
        raise InvalidJob(
            f"parameters: the notebook's language or kernel is {shown(language)}; parameters can be passed in"
            f" {', '.join(RESERVED)}"
        )
    return known


def _language_of_kernel(name: str | None) -> str | None:
    return _KERNELS.get(re.sub(r"[-_]?[\d.]*$", "", name).lower()) if name else None


def _statements(language: str, parameters: dict[str, Any]) -> str:
    try:
        from airflow_provider_nbjob.notebook.languages import TRANSLATORS  # imports papermill, a second or more
    except ImportError:
        raise InvalidJob(
            "parameters: papermill writes them, and is missing: pip install 'airflow-provider-nbjob[parameters]'"
        ) from None
    return str(TRANSLATORS[language].codify(parameters, "Parameters")).rstrip("\n")


def _inject(notebook: dict[str, Any], tag: str, source: str, *, after: Sequence[str]) -> None:
    """Put a cell with a tag into a notebook, in place of those that have it.

    :param after: tags, the first that a cell has counts; without one it stands where the first that it replaces stood
    """
    cells = notebook["cells"]
    earlier = [index for index, cell in enumerate(cells) if tag in _tags(cell)]
    at = earlier[0] if earlier else 0
    cells = [cell for index, cell in enumerate(cells) if index not in earlier]
    before = (index for wanted in after for index, cell in enumerate(cells) if wanted in _tags(cell))
    at = next((index + 1 for index in before), at)
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": [tag]},
        "outputs": [],
        "source": source,
    }
    minor = notebook.get("nbformat_minor")
    if isinstance(minor, int) and minor >= 5:
        cell["id"] = _free_id(cells, tag)
    notebook["cells"] = [*cells[:at], cell, *cells[at:]]


def _free_id(cells: list[Any], tag: str) -> str:
    """Return an id that no other cell has; computed, so that the same job is submitted with the same notebook."""
    taken = {cell.get("id") for cell in cells if isinstance(cell, dict) and isinstance(cell.get("id"), str)}
    number = 1
    while (name := tag if number == 1 else f"{tag}-{number}") in taken:
        number += 1
    return name


def _tags(cell: Any) -> list[Any]:
    metadata = cell.get("metadata") if isinstance(cell, dict) else None
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tags if isinstance(tags, list) else []


def _unknown(parameters: Sequence[str], cells: list[Any]) -> list[str]:
    tagged = next((cell for cell in cells if TAG in _tags(cell)), None)
    if tagged is None:
        return []
    source = tagged.get("source")
    lines = source if isinstance(source, list) else [source]
    assigned = _assigned("".join(lines)) if all(isinstance(line, str) for line in lines) else None
    if assigned is None:
        return []
    return [name for name in parameters if unicodedata.normalize("NFKC", name) not in assigned]


def _assigned(source: str) -> set[str] | None:
    """Return the names that Python's source assigns in its own scope; None if it cannot be parsed.

    papermill's own look at a cell goes by lines, and misses assignments to tuples and calls with keywords.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody's notebook
            nodes: list[ast.AST] = [ast.parse(_MAGIC.sub(r"\1pass", source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.comprehension):
            nodes += ast.iter_child_nodes(node)
    return names


def _described(value: Any) -> Any:
    """Return a value as JSON for the notebook's metadata, cut if it is long."""
    text = json.dumps(_json_safe(value))
    return _json_safe(value) if len(text) <= DESCRIBED_MAX else f"{text[:DESCRIBED_MAX]}..."


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {_json_safe(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
