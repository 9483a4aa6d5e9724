"""Write parameters into a notebook by papermill's convention: in a cell after the one that is tagged `parameters`.

The notebook's kernel gets equal values: None, booleans, numbers (NaN and infinities included), texts, lists, tuples,
dicts with texts as keys, and in Python dates, times and datetimes. Other languages get dates as text in ISO 8601, and
tuples as lists. bash has only texts and flat lists of texts; there None is the empty text.
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

# Languages by kernel name, for notebooks that do not name theirs. A version may follow the name, as in `julia-1.11`.
_KERNELS = {"ir": "R", "python": "python", "julia": "julia", "scala": "scala", "bash": "bash"}
_MAGIC = re.compile(r"^(\s*)[%!].*", re.MULTILINE)


class Parameterized(NamedTuple):
    """A notebook with its parameters.

    :param content: the notebook's JSON
    :param unknown: parameters that the cell tagged `parameters` does not assign; empty if the notebook has no such
        cell, or if its language is not Python
    :param language: the language of the parameters' cell
    """

    content: bytes
    unknown: list[str]
    language: str


def problems_of(parameters: Any) -> list[str]:
    """Check parameters without a notebook, and return one message for each problem, with the path of the value."""
    return _plain(parameters)[1]


def parameterize(
    content: bytes,
    parameters: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    kernel_name: str | None = None,
    origin: str | None = None,
) -> Parameterized:
    """Write parameters into a notebook.

    Add a cell tagged `injected-parameters` that assigns them, and remove earlier cells with this tag. The cell stands
    after the first cell that is tagged `parameters`; else in place of the first removed cell; else first. Below it, a
    cell tagged `injected-secret-parameters` reads the secrets.

    Describe the parameters in ``metadata["nbjob"]``: ``{"source": origin, "parameters": ..., "secret_parameters":
    ...}``. Values that JSON cannot hold are texts there, values of more than 1000 characters are cut, and secrets are
    described by their resource names. Nothing else in the notebook changes.

    :param content: the notebook's JSON; it is not validated against the schema
    :param parameters: values by name
    :param secrets: valid resource names of secret versions, by parameter; see `full_names`
    :param kernel_name: the kernel that will run the notebook, or None for the notebook's own
    :param origin: URI or name of the notebook's source, such as ``gs://bucket/notebook.ipynb``
    :raises InvalidJob: if a value cannot be passed, the content is no notebook, its language is not supported, or the
        extra `parameters` is missing
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
        described["parameters"] = _all_described(plain)
    if secrets:
        _inject(notebook, SECRETS_TAG, secrets_cell(secrets), after=[INJECTED_TAG, TAG])
        described[SECRETS_FIELD] = dict(secrets)
    notebook["metadata"][METADATA_KEY] = described
    try:
        return Parameterized(json.dumps(notebook).encode(), unknown, language)
    except RecursionError:
        raise InvalidJob("the notebook is no valid notebook: its JSON is nested too deep") from None


def described_parameters(parameters: Any) -> dict[str, Any]:
    """Return parameters as the notebook's metadata has them, without those that cannot be passed; see `parameterize`.

    :param parameters: values by name; anything else has none
    """
    return _all_described(_plain(parameters)[0])


def _all_described(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _described(value) for name, value in plain.items()}


def _plain(parameters: Any) -> tuple[dict[str, Any], list[str]]:
    """Convert parameters to plain values, and return them with one message for each problem."""
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
    """Return the language that a notebook will run in: that of the requested kernel, else that of the notebook.

    If neither names a language, return Python, because the API runs such a notebook with ``python3``.

    :raises InvalidJob: if parameters cannot be written in the language
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
        from airflow_provider_nbjob.notebook.languages import TRANSLATORS  # papermill belongs to an extra
    except ImportError:
        raise InvalidJob(
            "parameters: papermill writes them, and is missing: pip install 'airflow-provider-nbjob[parameters]'"
        ) from None
    return str(TRANSLATORS[language].codify(parameters, "Parameters")).rstrip("\n")


def _inject(notebook: dict[str, Any], tag: str, source: str, *, after: Sequence[str]) -> None:
    """Insert a code cell with a tag into a notebook, and remove the cells that have this tag.

    :param tag: the only tag of the new cell
    :param source: source of the new cell
    :param after: tags in order of preference: insert below the first cell with the first tag that any cell has. If no
        cell has one of them, insert in place of the first removed cell, or else first
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
    """Return an id that no other cell has. It is not random: the same job is submitted with the same notebook."""
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
    """Return the names that Python source assigns in its own scope; None if the source cannot be parsed.

    papermill inspects a cell line by line, and misses assignments to tuples and calls with keywords.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in a user's notebook
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
    """Convert a value to JSON for the notebook's metadata; cut it if it is long."""
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
