"""Tests of what stands in place of Airflow 3.3's triggerer, which starts tasks as no other does."""

from __future__ import annotations

from tests.support.airflow_versions import STARTS_IN_TRIGGERER

collect_ignore = [] if STARTS_IN_TRIGGERER else ["test_api_server.py", "test_starts.py"]
