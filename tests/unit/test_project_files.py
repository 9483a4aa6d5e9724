"""The files by which a forge works on the project name commands, paths and versions that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from airflow_provider_nbjob import __version__
from tests.support.paths import CHECKOUT

GITHUB = CHECKOUT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
OTHERS = [*sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")), GITHUB / "dependabot.yml"]
HOME = "https://github.com/airflow-provider-nbjob/airflow-provider-nbjob"
MAKEFILE = (CHECKOUT / "Makefile").read_text()
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
MAKE = re.compile(r"\bmake ([a-z][a-z-]*(?: [A-Z]+=\S+)*)")


def load(path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def texts(value: Any) -> Iterator[str]:
    """Yield all texts of a document of YAML, but not its comments."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def commands(path) -> list[str]:
    """Return the commands of make in a workflow, with their variables."""
    return [command for text in texts(load(path)) for command in MAKE.findall(text)]


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{path.stem}-{name}") for path in WORKFLOWS for name, job in load(path)["jobs"].items()
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_command_of_make_is_a_target(path):
    found = commands(path)
    assert found
    assert {command.split()[0] for command in found} <= TARGETS


def test_the_targets_have_rules():
    assert set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)) == TARGETS


def test_ci_runs_what_the_script_runs():
    script = (CHECKOUT / ".ci" / "run").read_text()
    assert commands(GITHUB / "workflows" / "ci.yml") == re.findall(r"^make (.*)$", script, re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_little(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in path.read_text()


@pytest.mark.parametrize("job", jobs())
def test_an_action_is_pinned_by_its_commit(job):
    used = [part["uses"] for part in [job, *job.get("steps", [])] if "uses" in part]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}|\./\.github/workflows/\w+\.yml", action)
        if action.startswith("./"):
            assert (CHECKOUT / action).exists()


@pytest.mark.parametrize("job", jobs())
def test_a_job_that_hangs_is_ended(job):
    assert "uses" in job or 0 < job["timeout-minutes"] <= 150


def test_only_the_job_that_publishes_may_prove_who_it_is():
    release = load(GITHUB / "workflows" / "release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 takes `on` for true
    publish = release["jobs"].pop("publish")
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"
    assert set(publish["needs"]) == set(release["jobs"])
    assert not any("permissions" in job for job in release["jobs"].values())
    assert not any("password" in text for text in texts(publish))
    assert not any("run" in step for step in publish["steps"])  # nothing of the checkout runs with that right


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_template_can_be_read(path):
    found = load(path)
    assert found
    for field in found.get("body", []):
        assert field["attributes"]["label"]
        assert field["type"] in {"dropdown", "textarea"}


def test_the_hooks_are_the_commands_of_lint():
    hooks = [hook for repo in load(CHECKOUT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    linted = [line.strip().replace("$(BIN)/", ".venv/bin/").removesuffix(" .") for line in recipe.splitlines()]
    assert [hook["entry"] for hook in hooks] == linted


def test_code_has_owners():
    (line,) = (GITHUB / "CODEOWNERS").read_text().splitlines()
    assert re.fullmatch(r"\* @airflow-provider-nbjob/[\w-]+", line)


# --- the changelog ---

CHANGELOG = (CHECKOUT / "CHANGELOG.md").read_text()
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_changelog_keeps_to_its_form():
    versions = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version)
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= KINDS
    for version in versions:
        name = re.escape(version.partition("]")[0] + "]")
        assert re.search(rf"^{name}: {re.escape(HOME)}/", CHANGELOG, re.MULTILINE)


def test_the_newest_version_of_the_changelog_is_that_of_the_package():
    released = re.findall(r"^## \[(\d.*)\]", CHANGELOG, re.MULTILINE)
    assert not released or released[0] == __version__


def test_contributing_names_commands_that_are_there():
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    assert {command.split()[0] for command in re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)} <= TARGETS
    for path in ("constraints.txt", "tests/promises.txt", "tests/support", "tests/unit/test_architecture.py"):
        assert f"`{path}`" in text
        assert (CHECKOUT / path).exists()
