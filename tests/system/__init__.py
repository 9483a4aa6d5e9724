"""Tests in a real Airflow."""

import pytest

pytest.register_assert_rewrite("tests.system.fault_case")  # before the conftest imports it
