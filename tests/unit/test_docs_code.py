"""The code in the documentation works: Python makes DAGs, commands and their options exist, other formats parse."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from airflow.sdk import DAG, task

from airflow_provider_nbjob.emulator.__main__ import parser as emulator_parser
from airflow_provider_nbjob.get_provider_info import get_provider_info
from scripts.reference import VARIABLES
from tests.support.airflow_versions import AIRFLOW
from tests.support.docs import DOCS, PAGES, Block, blocks, commands, with_files
from tests.support.paths import CHECKOUT

OPTIONS = get_provider_info()["config"]["nbjob"]["options"]
SETTINGS = {f"AIRFLOW__NBJOB__{name.upper()}" for name in OPTIONS}
LANGUAGES = {"", "console", "ini", "json", "python", "sh", "sql", "yaml"}
# Variables of other programs that the pages set.
OTHER_VARIABLES = re.compile(r"CLOUDSDK_\w+|GCSFS_\w+|AIRFLOW_HOME|AIRFLOW__(?!NBJOB__)\w+")
# Commands of Google's and their flags, as https://cloud.google.com/sdk/gcloud/reference has them.
BINDING = ("--member", "--role")
TEMPLATE = ("--region", "--display-name", "--machine-type", "--accelerator-type", "--accelerator-count")
GCLOUD = {
    "gcloud projects add-iam-policy-binding": BINDING,
    "gcloud iam service-accounts add-iam-policy-binding": BINDING,
    "gcloud storage buckets add-iam-policy-binding": BINDING,
    "gcloud secrets add-iam-policy-binding": BINDING,
    "gcloud secrets create": ("--data-file",),
    "gcloud services enable": (),
    "gcloud colab schedules list": ("--region",),
    "gcloud colab runtime-templates create": TEMPLATE,
    "gcloud colab runtime-templates list": ("--region",),
}


@task
def publish(value):
    print(value)


def python_of(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


@pytest.fixture
def dags(monkeypatch):
    """Return a list that gets each DAG that is entered."""
    entered: list[DAG] = []

    class Recorded(DAG):
        def __enter__(self):
            entered.append(self)
            return super().__enter__()

    monkeypatch.setattr("airflow.sdk.DAG", Recorded)
    return entered


def run(page: str, file: Path) -> str:
    """Run the Python of a page in a file's name, one block after the other, and return the code."""
    # What the README's first block passes a result to is the reader's own.
    names: dict[str, object] = {"__name__": "page", "__file__": str(file), "publish": publish}
    ran = []
    for block in python_of(page):
        compile(block.text, page, "exec")
        if not block.is_of_another_program and "..." not in block.text:
            with_files(file.parent, block.text)
            exec(compile(block.text, str(file), "exec"), names)
            ran.append(block.text)
    return "\n".join(ran)


# The README's is run below; `tests/unit/testing/test_how_to.py` compares the other one's with a repository that is run.
RUN_ELSEWHERE = {"README.md", "docs/how-to/testing.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN_ELSEWHERE and python_of(page)])
def test_python_runs_and_makes_dags(page, tmp_path, dags):
    ran = run(page, tmp_path / "page.py")
    assert len(dags) == len(re.findall(r"^with DAG\(", ran, re.MULTILINE))
    assert all(dag.tasks and dag.topological_sort() for dag in dags)


@pytest.mark.parametrize(
    ("page", "first"), [("docs/index.md", "train"), ("docs/how-to/parameters-and-results.md", "score")]
)
def test_a_result_goes_on_to_another_task(page, first, tmp_path, dags):
    run(page, tmp_path / "page.py")
    assert dags[0].task_dict[first].downstream_list


def test_the_readme_passes_a_result_on(tmp_path):
    with DAG("readme") as dag:
        run("README.md", tmp_path / "page.py")
    assert dag.task_dict["train"].downstream_list


@pytest.mark.parametrize("page", PAGES)
def test_a_block_has_a_known_language(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES)
def test_json_yaml_and_configuration_parse(page):
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "ini":
            config = configparser.ConfigParser()
            config.read_string(block.text)
            assert not config.has_section("nbjob") or set(config["nbjob"]) <= set(OPTIONS)


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))])
def test_commands_and_their_options_exist(page):
    for words in commands(page):
        problem = problem_of(words)
        assert not problem, f"{' '.join(words)}: {problem}"


def problem_of(words: Sequence[str]) -> str | None:
    """Return what is wrong with a command, or None."""
    check = {
        "make": of_make,
        "pip": of_pip,
        "uv": of_pip,
        "python": of_python,
        "export": of_export,
        "airflow": of_airflow,
        "gcloud": of_gcloud,
        "curl": of_curl,
        "pytest": lambda words: None,
        "jupyter": lambda words: None if words[1] in ("nbconvert", "kernelspec") else "no such program",
        ".": lambda words: None if words[1:] == ["venv/bin/activate"] else "no such file",
    }.get(words[0])
    return check(words) if check else "no known program"


def of_make(words: Sequence[str]) -> str | None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for word in words[1:]:
        name, is_variable, _ = word.partition("=")
        found = re.search(
            rf"\$\((if \$\()?{name}\b" if is_variable else rf"^{re.escape(name)}:", makefile, re.MULTILINE
        )
        if not found:
            return f"the Makefile has no {name}"
    return None


def of_pip(words: Sequence[str]) -> str | None:
    extras = set(importlib.metadata.metadata("airflow-provider-nbjob").get_all("Provides-Extra") or ())
    wanted = set(re.findall(r"\w+", "".join(re.findall(r"airflow-provider-nbjob\[([^]]*)\]", " ".join(words)))))
    return None if wanted <= extras else f"there are no extras {wanted - extras}"


def of_python(words: Sequence[str]) -> str | None:
    if words[1] != "-m" or not importlib.util.find_spec(words[2]):
        return "no such module"
    if words[2] != "airflow_provider_nbjob.emulator":
        return None
    known = {option for action in emulator_parser()._actions for option in action.option_strings}
    unknown = {word for word in words[3:] if word.startswith("--")} - known
    return f"there are no options {unknown}" if unknown else None


def of_export(words: Sequence[str]) -> str | None:
    unknown = [
        name
        for name in (word.partition("=")[0] for word in words[1:])
        if name not in VARIABLES and name not in SETTINGS and not OTHER_VARIABLES.fullmatch(name)
    ]
    return f"no documented variables: {unknown}" if unknown else None


def of_airflow(words: Sequence[str]) -> str | None:
    from airflow.cli.cli_parser import get_parser

    if words[1] == "nbjob" and AIRFLOW < (3, 2):
        return None  # providers add no commands to it
    try:
        get_parser().parse_args(list(words[1:]))
    except SystemExit:
        return "Airflow does not know it"
    return None


def of_gcloud(words: Sequence[str]) -> str | None:
    command = next((known for known in GCLOUD if " ".join(words).startswith(f"{known} ")), None)
    if command is None:
        return "not in the list of commands"
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    return f"there are no flags {flags - set(GCLOUD[command])}" if flags - set(GCLOUD[command]) else None


def of_curl(words: Sequence[str]) -> str | None:
    routes = r"\$REST/(v1/projects/|emulator/(faults|calls))|https://dataform\.googleapis\.com/v1/projects/"
    return None if any(re.match(routes, word) for word in words) else "no known address"


@pytest.mark.parametrize(
    "command",
    [
        "make no-such-target",
        "make demo NO_SUCH=1",
        "pip install 'airflow-provider-nbjob[no_such]'",
        "python -m airflow_provider_nbjob.no_such",
        "python -m airflow_provider_nbjob.emulator --no-such",
        "export NO_SUCH=1",
        "airflow no-such",
        "gcloud no such",
        "gcloud colab schedules list --no-such=1",
        "curl https://example.com",
        "rm -rf /",
    ],
)
def test_a_command_that_does_not_exist_is_found(command):
    assert problem_of(shlex.split(command))


def test_every_page_is_in_the_navigation():
    navigation = (CHECKOUT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w/-]+\.md", navigation))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
