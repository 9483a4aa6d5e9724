"""`make ui`, as a person runs it."""

from __future__ import annotations

import os
import re
import signal

import httpx

from tests.support.patience import patient
from tests.system.script import left_behind, start, written_elsewhere


def read_until(process, wanted: str) -> str:
    """What it prints up to a line that holds `wanted`."""
    printed = ""
    for line in process.stdout:
        printed += line
        if wanted in line:
            return printed
    raise AssertionError(f"it ended without {wanted!r}:\n{printed}")


def value(name: str, printed: str) -> str:
    return re.search(rf"^ +{name} +(\S+)$", printed, re.MULTILINE)[1]


def states_of_runs(printed: str) -> dict[str, str]:
    """The states of the runs that it made, as the printed user with the printed password sees them."""
    credentials = {"username": value("user", printed), "password": value("password", printed)}
    with httpx.Client(base_url=value("address", printed), timeout=patient(30)) as api:
        assert api.get("/api/v2/dags").status_code == 401
        assert api.post("/auth/token", json={**credentials, "password": "another"}).status_code == 401
        token = api.post("/auth/token", json=credentials).raise_for_status().json()["access_token"]
        runs = api.get("/api/v2/dags/~/dagRuns", headers={"authorization": f"Bearer {token}"}).raise_for_status()
        return {run["dag_run_id"]: run["state"] for run in runs.json()["dag_runs"]}


def test_it_stops_what_it_started_when_it_is_ended_half_way(checkout):
    ui = start(checkout, "ui.py")
    read_until(ui, "starting Airflow")
    os.kill(ui.pid, signal.SIGTERM)
    ui.communicate(timeout=patient(60))
    assert ui.returncode == 143
    assert not left_behind(checkout)


def test_it_serves_finished_runs_until_it_is_interrupted(checkout):
    """Beside a second start, which it refuses, and over what an earlier one has left."""
    ui = start(checkout, "ui.py")
    try:
        printed = read_until(ui, "Ctrl-C stops it")
        assert states_of_runs(printed) == {"daily_report": "success", "failing": "failed", "two_days": "success"}
        second = start(checkout, "ui.py")
        assert "It runs already" in second.communicate(timeout=patient(30))[0]
        assert second.returncode == 1
        assert ui.poll() is None
    finally:
        os.kill(ui.pid, signal.SIGINT)
        ui.communicate(timeout=patient(60))
    assert ui.returncode == 130
    assert not left_behind(checkout)
    assert not written_elsewhere(checkout)
