"""Every package that is imported is declared: what merely happens to be installed may be missing, or be somebody's."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_nbjob

PACKAGE = Path(airflow_provider_nbjob.__file__).parent
OURS = PACKAGE.name
DIST = "airflow-provider-nbjob"

# The distribution that has a module, the longest prefix first.
DISTRIBUTIONS = {
    "airflow.providers.common.compat": "apache-airflow-providers-common-compat",
    "airflow.providers.google": "apache-airflow-providers-google",
    "airflow.providers.openlineage": "apache-airflow-providers-openlineage",
    "airflow": "apache-airflow",
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud.aiplatform_v1": "google-cloud-aiplatform",
    "google.cloud.dataform_v1": "google-cloud-dataform",
    "google.cloud.secretmanager_v1": "google-cloud-secret-manager",
    "google.cloud.storage": "google-cloud-storage",
    "google.longrunning": "googleapis-common-protos",
    "google.rpc": "googleapis-common-protos",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "jupyter_client": "jupyter-client",
    "google_crc32c": "google-crc32c",
    "openlineage": "openlineage-python",
    "re2": "google-re2",
}
# What a declared distribution requires and hands out: it is the same one whatever we declare.
HANDED_OUT = {
    "fastapi": "apache-airflow-core",
    "googleapis-common-protos": "google-api-core",
    "jinja2": "apache-airflow-core",
    "jupyter-client": "nbclient",
    "markupsafe": "jinja2",
    "protobuf": "google-api-core",
    "pygments": "nbconvert",
    "sqlalchemy": "apache-airflow-core",
    "starlette": "apache-airflow-core",  # of fastapi
}
ALWAYS_THERE = {"apache-airflow-core", "jinja2"}  # with apache-airflow
EXTRAS = {
    "emulator": ["emulator"],
    "lineage": ["openlineage"],
    "notebook": ["parameters", "scripts"],
    "plugins": ["ui"],
    "rendering": ["ui"],
    "testing": ["testing"],
}


def imported() -> Iterator[tuple[str, str]]:
    """The modules that each room of the package imports, wherever in a module the import stands."""
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((room, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from google.cloud import storage` imports a package of another distribution each
                is_namespace = node.module in ("google", "google.cloud")
                found = [f"{node.module}.{alias.name}" for alias in node.names] if is_namespace else [node.module]
                yield from ((room, name) for name in found)


def distribution(module: str) -> str:
    prefixes = sorted((p for p in DISTRIBUTIONS if f"{module}.".startswith(f"{p}.")), key=len)
    return DISTRIBUTIONS[prefixes[-1]] if prefixes else module.split(".")[0].lower()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(dist: str, extra: str | None = None) -> set[str]:
    """What a distribution requires without an extra, or what it does with one only."""
    found = set()
    for requirement in importlib.metadata.requires(dist) or []:
        name, marker = requirement.partition(";")[::2]
        extras = re.findall(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if (extra in extras) if extra else not extras:
            found.add(normal(re.match(r"[-A-Za-z0-9._]+", name)[0]))
    return found


@pytest.fixture(scope="module")
def declared() -> dict[str | None, set[str]]:
    extras = ("emulator", "openlineage", "parameters", "scripts", "testing", "ui")
    return {extra: required(DIST, extra) for extra in (None, *extras)}


def test_every_import_is_declared_where_it_is_needed(declared):
    missing = set()
    for room, module in imported():
        if module.split(".")[0] in {*sys.stdlib_module_names, OURS}:
            continue
        wanted = distribution(module)
        wanted = HANDED_OUT.get(wanted, wanted)
        allowed = declared[None].union(*(declared[extra] for extra in EXTRAS.get(room, [])))
        if wanted not in allowed | ALWAYS_THERE:
            missing.add((room, wanted))
    assert missing == set()


@pytest.mark.parametrize("name", ["google-cloud-dataform", "google-auth", "grpcio"])
def test_what_the_hook_imports_needs_no_extra(declared, name):
    assert name in declared[None]


@pytest.mark.parametrize("name", HANDED_OUT)
def test_what_is_handed_out_is_required_by_who_does(name):
    assert name in {*required(HANDED_OUT[name]), *required(HANDED_OUT[name], "fastapi")}


@pytest.mark.parametrize("module", ["google.cloud.dataform_v1.types", "google.cloud.storage", "grpc", "unheard_of.x"])
def test_the_check_knows_one_distribution_from_another(module):
    assert distribution(module) in {"google-cloud-dataform", "google-cloud-storage", "grpcio", "unheard_of"}
