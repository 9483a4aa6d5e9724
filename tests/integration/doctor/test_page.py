"""The page of the command shows what the command prints."""

from __future__ import annotations

import re
import shlex

import pytest

from airflow_provider_nbjob.doctor.command_line import main
from airflow_provider_nbjob.doctor.flags import FLAGS
from tests.support.emulator_process import EmulatorProcess
from tests.support.paths import CHECKOUT
from tests.support.patience import patient

PAGE = CHECKOUT / "docs" / "how-to" / "doctor.md"
COMMAND = "$ airflow nbjob "
JSON = {"Content-Type": "application/json"}
FAULT = "$ curl $REST/emulator/faults "
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)


def as_on_the_page(printed: str, emulator: EmulatorProcess) -> list[str]:
    """Return lines with the emulator's default port, and sizes as the page has them."""
    text = printed.replace(emulator.grpc_address, "127.0.0.1:8960")
    return [re.sub(r"[0-9]+ bytes$", "N bytes", line) for line in text.splitlines()]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_what_the_command_prints(
    service: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], block: str
) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    lines = block.splitlines()
    if lines[0].startswith(FAULT):
        service._request("POST", "emulator/faults", content=shlex.split(lines[0])[-1], headers=JSON)
        lines.pop(0)
    command = lines.pop(0)
    assert command.startswith(COMMAND)
    main([*shlex.split(command.removeprefix(COMMAND)), f"--timeout={patient(20):g}"])
    shown = as_on_the_page("\n".join(lines), service)
    assert as_on_the_page(capsys.readouterr().out, service) == shown


def test_the_page_has_blocks_and_names_all_checks_and_options(
    service: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) == 3
    text = PAGE.read_text()
    assert not [flag for flag, _ in FLAGS if f"`{flag}" not in text]
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    main(["doctor", "--location=us-central1", f"--timeout={patient(20):g}"])
    checks = [line[9:26].strip() for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert re.findall(r"^\| ([^|]+?) \| (?!asks|---|meaning)[^|]+ \| [^|]+ \|$", text, re.MULTILINE) == checks
