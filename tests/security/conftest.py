"""What the security tests of several rooms share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def airflow_masks() -> Callable[[str], None]:
    """Return what gives Airflow's two maskers a secret, in this process; they forget it after the test."""
    import airflow._shared.secrets_masker  # noqa: F401  registers with the other one
    from airflow.sdk._shared import secrets_masker

    return secrets_masker.mask_secret
