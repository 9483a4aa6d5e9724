"""Settings of all unit tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes, and how long it takes to make, depends on the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
