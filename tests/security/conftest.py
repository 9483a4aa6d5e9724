"""What the security tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, and how long it takes to make, depends on the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def airflow_masks() -> Iterator[object]:
    """Give Airflow secrets to mask, in this process; they are forgotten afterwards."""
    from airflow._shared import secrets_masker as core
    from airflow.sdk._shared import secrets_masker as sdk

    maskers = [core._secrets_masker(), sdk._secrets_masker()]
    before = [(set(m.patterns), m.replacer) for m in maskers]
    yield sdk.mask_secret
    for masker, (patterns, replacer) in zip(maskers, before, strict=True):
        masker.patterns, masker.replacer = patterns, replacer
