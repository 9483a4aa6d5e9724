"""What Airflow discovers of this package."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_provider_nbjob import __version__
from airflow_provider_nbjob.get_provider_info import get_provider_info
from tests.support.airflow_versions import PROVIDERS_HAVE_COMMANDS


def test_it_is_valid_by_airflows_schema():
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    unknown = set(get_provider_info()) - set(schema["properties"])
    assert unknown == (set() if PROVIDERS_HAVE_COMMANDS else {"cli"})


def test_the_function_that_it_names_returns_commands():
    (path,) = get_provider_info()["cli"]
    module, _, name = path.rpartition(".")
    (group,) = getattr(importlib.import_module(module), name)()
    (command,) = group.subcommands
    assert (group.name, command.name) == ("nbjob", "doctor")
    assert all(command.help and arg.kwargs["help"] for arg in command.args)


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_that_it_names_exists(kind):
    for entry in get_provider_info()[kind]:
        for module in entry["python-modules"]:
            assert importlib.import_module(module)


def test_every_link_of_the_operators_is_registered():
    from airflow_provider_nbjob.links.notebook_execution_job import LINKS

    registered = set(get_provider_info()["extra-links"])
    assert registered == {f"{type(link).__module__}.{type(link).__qualname__}" for link in LINKS}


def test_the_entry_point_leads_to_it():
    (entry_point,) = importlib.metadata.entry_points(
        group="apache_airflow_provider", module="airflow_provider_nbjob.get_provider_info"
    ) or [None]
    assert entry_point.load() is get_provider_info
    assert get_provider_info()["package-name"] == entry_point.dist.name
    assert entry_point.dist.version == __version__
