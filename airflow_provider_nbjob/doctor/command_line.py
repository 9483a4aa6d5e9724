"""The command line: ``airflow nbjob doctor``, and ``python -m airflow_provider_nbjob doctor``.

Airflow imports this module at each of its commands, for `get_cli_commands`. So it imports nothing of Google's, and no
other part of the provider that does, before the command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from airflow_provider_nbjob import airflow_compat
from airflow_provider_nbjob.doctor.flags import FLAGS

GROUP = "nbjob"
COMMAND = "doctor"
_GROUP_HELP = "Notebook execution jobs"
_HELP = "Check what notebook jobs need: connection, credentials, network, permissions, quota"

PASSED, FAILED, MISUSED = 0, 1, 2  # exit statuses


def get_cli_commands() -> list[Any]:
    """Return the commands of this provider for the command line of Airflow, which calls this from 3.2 on."""
    command = airflow_compat.Command(COMMAND, _HELP, f"{__name__}.run_for_airflow", FLAGS)
    return [airflow_compat.command_group(GROUP, _GROUP_HELP, [command])]


def run_for_airflow(given: argparse.Namespace) -> None:
    """Run the command for Airflow, which takes the exit status from `SystemExit`."""
    raise SystemExit(run(given))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command without Airflow's command line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_nbjob")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(COMMAND, help=_HELP, description=_HELP)
    for flag, settings in FLAGS:
        command.add_argument(flag, **settings)
    return run(parser.parse_args(arguments))


def run(given: argparse.Namespace) -> int:
    """Run all checks, print their findings as they come, and return the exit status.

    The connection is read as the API server does: from the environment, secrets backends, or Airflow's database.

    :param given: the values of `FLAGS`
    """
    return airflow_compat.without_logs(lambda: _run(given))  # the findings say all that there is to say


def _run(given: argparse.Namespace) -> int:
    from airflow_provider_nbjob.doctor import checks, options, report, runner
    from airflow_provider_nbjob.exceptions import InvalidJob

    airflow_compat.read_connections_as_server()
    try:
        parsed = options.parse_options(given)
        to_do = list(checks.Examination(parsed).checks())
    except InvalidJob as error:
        for problem in error.problems:
            _print(f"{COMMAND}: error: {report.one_line(problem)}", sys.stderr)
        return MISUSED
    findings = []
    for finding in runner.run(to_do, parsed.seconds):
        findings.append(finding)
        if not given.json:
            _print("\n".join(report.lines_of(finding)), sys.stdout)
    if given.json:
        _print(report.as_json(findings), sys.stdout)
    return PASSED if report.has_passed(findings) else FAILED


def _print(text: str, stream: TextIO) -> None:
    """Write a line, with escapes for the characters that the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
