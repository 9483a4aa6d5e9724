"""What only a production Airflow has to stand: many tasks, the loss of one of two, and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.fault_table import PROPERTY
from tests.support.service_process import Service
from tests.system.fault_case import World
from tests.system.production.many_case import ManyCase


@pytest.fixture(scope="session")
def api() -> Iterator[Service]:
    """Start the service of the jobs that need no kernel."""
    service = Service("tests.system.production.service")
    yield service
    service.close()


@pytest.fixture
def many(world: World, api: Service, record_property: Callable[[str, object], None]) -> Iterator[ManyCase]:
    """Begin a case of mapped notebooks."""
    api("begin")
    world.airflow.start_what_has_ended()
    made = ManyCase(world.airflow, api, told=lambda row: record_property(PROPERTY, [*row]))
    yield made
    made.abandon()
