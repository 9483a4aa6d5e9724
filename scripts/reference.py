"""Write the pages of the documentation that are made of the package: `docs/reference/*.md`, but for the API's.

`make docs` runs this; a test compares the pages with the package.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_nbjob.emulator.__main__ import parser
from airflow_provider_nbjob.emulator.faults import RPCS, Fault
from airflow_provider_nbjob.get_provider_info import get_provider_info
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.job.environment_fields import CLIENT_VERSION, FIELDS
from airflow_provider_nbjob.operators import notebook_execution_job as operators
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PACKAGE = "airflow_provider_nbjob"
WRITTEN = "<!-- Written by scripts/reference.py from the package; do not edit. -->"
_PARAMETER = re.compile(r":param (\w+): (.*?)(?=\n\s*:|\Z)", re.DOTALL)
TASKS = {
    **{getattr(operators, name): operators.__name__ for name in operators.__all__},
    NotebookExecutionJobSensor: NotebookExecutionJobSensor.__module__,
}

# Fields of the connection's extra, with the package that reads them and what they are for.
CONNECTION = {
    "project": "The project of jobs, if a task gives no `project_id`.",
    "key_path": "The key file of a service account, at the same path wherever a process reads it.",
    "keyfile_dict": "The content of a key file.",
    "key_secret_name": "The name of a secret in Secret Manager that holds the key.",
    "credential_config_file": "A credential configuration of workload identity federation: a path or its content.",
    "scope": "OAuth scopes, separated by commas. The default covers all that this provider does.",
    "impersonation_chain": "A service account, or accounts separated by commas, to impersonate. The argument wins.",
    "api_endpoint": "The host of the Vertex AI API. Only this provider reads it. The argument wins.",
}
VARIABLES = {
    "NBJOB_EMULATOR_HOST": "`host:port` of the emulator's gRPC port. All tasks that name no `api_endpoint` use it.",
    "NBJOB_EMULATOR_TOKEN": "The token that clients send to the emulator. For the emulator: the token to require.",
    "STORAGE_EMULATOR_HOST": "Google's own variable: the address of the emulator's Cloud Storage.",
    "SECRET_MANAGER_EMULATOR_HOST": "The address of the emulator's Secret Manager. The emulator sets it for notebooks.",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN": "Google's own variable: the domain of another universe than `googleapis.com`.",
    "GOOGLE_APPLICATION_CREDENTIALS": "Google's own variable: the key file, if the connection names none.",
    "NBJOB_LAZY_PACKAGES": "`0` loads the whole client library for Vertex AI.",
}


def operators_page() -> str:
    """Return the page of the arguments of operators and sensor."""
    lines = [
        "# Arguments of operators and sensor",
        "",
        WRITTEN,
        "",
        "All arguments are keywords. Each class also takes the arguments of Airflow's `BaseOperator`, and the sensor",
        "those of `BaseSensorOperator`. *T* marks an argument in which templates are rendered. An argument without a",
        "default is `None` if it is not given. [The reference](../reference.md) groups the arguments by their purpose.",
    ]
    for kind, module in TASKS.items():
        lines += ["", f"## {kind.__name__}", "", "```python", f"from {module} import {kind.__name__}", "```", ""]
        lines += [_markdown(_summary(kind)), "", "| argument | default | |", "|---|---|---|"]
        # What the sensor shares with the operator, and both with the hook, is documented there.
        shared = dict(_documented(operators.CreateNotebookExecutionJobOperator)), dict(_documented(kind))
        texts = {**shared[0], **{name: text for name, text in shared[1].items() if not _refers(text)}}
        texts |= {name: text for name, text in _documented(NotebookExecutionJobHook) if name in texts}
        for name, parameter in _parameters(kind).items():
            marks = " *T*" if name in kind.template_fields else ""
            lines.append(f"| `{name}`{marks} | {_default(parameter)} | {_markdown(texts.get(name, ''))} |")
    lines += ["", "## The result", "", "| part | |", "|---|---|"]
    lines += [f"| `{name}` | {_markdown(text)} |" for name, text in _documented(JobResult)]
    return "\n".join([*lines, ""])


def configuration_page() -> str:
    """Return the page of the configuration, the connection and the environment."""
    options = get_provider_info()["config"]["nbjob"]["options"]
    lines = [
        "# Configuration and connection",
        "",
        WRITTEN,
        "",
        "## Configuration of Airflow",
        "",
        "Set an option in the section `[nbjob]` of `airflow.cfg`, or by its variable. Each process reads its own.",
        "",
        "| option | variable | default | since | |",
        "|---|---|---|---|---|",
    ]
    for name, option in options.items():
        lines.append(
            f"| `{name}` | `AIRFLOW__NBJOB__{name.upper()}` | `{option['default']}` | {option['version_added']}"
            f" | {_markdown(option['description'])} |"
        )
    lines += [
        "",
        "## Connection",
        "",
        "The type is *Google Cloud*, `google_cloud_platform`; the default id is `google_cloud_default`. A connection",
        "that names no key uses the Application Default Credentials of the process. These are fields of its extra:",
        "",
        *("| field | |", "|---|---|"),
        *(f"| `{name}` | {text} |" for name, text in CONNECTION.items()),
        "",
        "## Environment",
        "",
        *("| variable | |", "|---|---|"),
        *(f"| `{name}` | {text} |" for name, text in VARIABLES.items()),
    ]
    return "\n".join([*lines, ""])


def environment_page() -> str:
    """Return the page of the keys of `custom_environment_spec`."""
    lines = [
        "# Keys of custom_environment_spec",
        "",
        WRITTEN,
        "",
        "The argument `custom_environment_spec` describes the machine, the disk and the network of a job without a",
        f"runtime template. These are its keys, from google-cloud-aiplatform {CLIENT_VERSION}, Google's Python client.",
        "Any other key is refused when the DAG is parsed. [GPUs and machine types](../how-to/gpu.md) shows an example.",
        "",
        "| key | value |",
        "|---|---|",
        *(f"| `{path}` | {_kind(kind)} |" for path, kind in _leaves(FIELDS["custom_environment_spec"])),
    ]
    return "\n".join([*lines, ""])


def emulator_page() -> str:
    """Return the page of the emulator's options."""
    lines = [
        "# Options and faults of the emulator",
        "",
        WRITTEN,
        "",
        "These are the options of `python -m airflow_provider_nbjob.emulator`, which serves",
        "[these APIs](../emulator.md).",
        "",
        "| option | default | |",
        "|---|---|---|",
    ]
    for action in parser()._actions:
        if action.dest != "help":
            value = f" `{action.metavar}`" if action.metavar else ""
            default = "" if action.default in (None, False, []) else f"`{action.default}`"
            lines.append(f"| `{action.option_strings[0]}`{value} | {default} | {_cell(action.help or '')} |")
    lines += [
        "",
        "## Faults",
        "",
        "`POST /emulator/faults` with a JSON object adds a fault, `DELETE /emulator/faults` removes all. These are the",
        "fields of the object:",
        "",
        *("| field | default | |", "|---|---|---|"),
    ]
    for name, text in _documented(Fault):
        lines.append(f"| `{name}` | {_default(inspect.signature(Fault).parameters[name])} | {_markdown(text)} |")
    lines += ["", f"The values of `rpc` are {', '.join(f'`{rpc}`' for rpc in RPCS)} and `*`."]
    return "\n".join([*lines, ""])


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters that the classes of this package give a task, the more general ones last."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if base.__module__.startswith(PACKAGE) and "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            found.update({p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in found})
    return found


def _documented(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the parameters that a task's classes document, with their texts; those of the class itself last."""
    for base in reversed(kind.__mro__):
        if base.__module__.startswith(PACKAGE) and base.__doc__:
            for name, text in _PARAMETER.findall(inspect.cleandoc(base.__doc__)):
                yield name, " ".join(text.split())


def _refers(text: str) -> bool:
    return text.startswith(("as in ", "as for ", "see `NotebookExecutionJobHook`"))


def _summary(kind: type) -> str:
    """Return what a class's docstring says before its parameters, each paragraph on one line."""
    text = inspect.cleandoc(kind.__doc__ or "").partition(":param")[0].strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    # That of `deferrable` is what the configuration of this machine says.
    return "" if parameter.default in (None, ()) or parameter.name == "deferrable" else f"`{parameter.default!r}`"


def _markdown(text: str) -> str:
    """Return a docstring's text in Markdown: what stands between two backticks or one is code."""
    return _cell(text.replace("``", "`"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _leaves(fields: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, kind in fields.items():
        if isinstance(kind, dict):
            yield from _leaves(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", kind


def _kind(kind: Any) -> str:
    if isinstance(kind, list):
        return f"list of {_kind(kind[0])}"
    if isinstance(kind, tuple):
        return ", ".join(f"`{name}`" for name, number in kind if number)
    return {"string": "text", "bool": "`True` or `False`"}.get(kind, "whole number")


PAGES = {
    "operators.md": operators_page,
    "configuration.md": configuration_page,
    "environment.md": environment_page,
    "emulator.md": emulator_page,
}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
