"""The command in this process, against an emulator in another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_nbjob.doctor.command_line import main
from tests.support.doctor_runs import WHOLE, Run
from tests.support.patience import patient


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command, by default with all options, and returns its exit status and the findings."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # which the command sets, and nobody takes back

    def run(**options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        given = {"location": "us-central1", "timeout": f"{patient(20):g}", **WHOLE}
        given |= {name.replace("_", "-"): value for name, value in options.items()}
        status = main(["doctor", "--json", *(f"--{name}={value}" for name, value in given.items())])
        printed = capsys.readouterr()
        assert printed.err == ""
        answer = json.loads(printed.out)
        assert answer["passed"] == (status == 0)
        return status, {finding["check"]: finding for finding in answer["checks"]}

    return run
