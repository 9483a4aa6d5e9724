"""A value that breaks a rule is refused before anything is asked, in one line that names option, value and rule."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.doctor import command_line
from airflow_provider_nbjob.doctor.command_line import main
from airflow_provider_nbjob.doctor.flags import FLAGS

GOOD = {"--location": "us-central1"}
HOSTILE = [
    "",
    " ",
    "x\n",
    "a\0b",
    "../../etc/passwd",
    "a b",
    "x" * 5000,
    "\udcff",
    "\x1b[2J",
    "é\u202e",
    "'; drop",
    "%s{0}",
]
BAD = {
    "--conn-id": [value for value in HOSTILE if value != "../../etc/passwd"],  # Airflow allows those characters
    "--location": [*HOSTILE, "global", "us", "us-central1.evil.example", "us-central1/", "US-CENTRAL1"],
    "--project-id": [*HOSTILE, "p/q", "p?x", "-", "P"],
    "--impersonation-chain": [*HOSTILE, "a@p.example,", ",", "a@p/../b", "a@p.example, x#y"],
    "--api-endpoint": [*HOSTILE, "evil.example.com", "http://user:pass@127.0.0.1", "unix:1", "127.0.0.1:99999"],
    "--template": [*HOSTILE, "a/b", "projects/p/locations/europe-west1/notebookRuntimeTemplates/t"],
    "--output-uri": [*HOSTILE, "s3://bucket", "gs://", "gs://..", "gs://bucket/\n", "bucket"],
    "--source": [*HOSTILE, "gs://bucket", "gs://bucket/folder/", "projects/p/locations/x/repositories/", "projects/"],
    "--service-account": [*HOSTILE, "a@p/..", "a", "a@b?c", "a@p.example/x"],
    "--timeout": [*HOSTILE, "0", "-0", "nan", "inf", "1e9", "0.5", "601", "1h"],
}


@pytest.fixture(autouse=True)
def no_checks(monkeypatch):
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # which the command sets
    monkeypatch.setattr("airflow_provider_nbjob.doctor.checks.Examination.checks", lambda _: iter(()))


def command(**options) -> list[str]:
    return ["doctor", *(f"{flag}={value}" for flag, value in {**GOOD, **options}.items())]


def test_every_option_with_a_value_is_tried():
    assert {*BAD} == {flag for flag, settings in FLAGS if "action" not in settings}


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag, values in BAD.items() for value in values])
def test_a_hostile_value_is_refused_in_one_line(capsys, flag, value):
    assert main(command(**{flag: value})) == command_line.MISUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"doctor: error: {flag}: ")
    assert any(rule in line for rule in ("of the form", "not allowed", "from 1 to 600", "not in the job's location"))
    assert len(line) < 1400
    assert line.isprintable()


def test_a_terminal_without_unicode_shows_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(written, encoding="ascii"))
    assert main(command(**{"--conn-id": "\u00e9 "})) == command_line.MISUSED
    assert written.getvalue().startswith(b"doctor: error: --conn-id: '\\xe9 ' is not")


@pytest.mark.parametrize("flag", BAD)
def test_a_flag_without_a_value_is_named(capsys, flag):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--location", "us-central1", flag])
    assert ended.value.code == command_line.MISUSED
    assert f"argument {flag}: expected one argument" in capsys.readouterr().err


def test_all_that_is_wrong_is_named_at_once(capsys):
    assert main(command(**{"--location": "x", "--project-id": "?", "--timeout": "never"})) == command_line.MISUSED
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[2] for line in lines) == ["--location", "--project-id", "--timeout"]


def test_a_location_is_required(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == command_line.MISUSED
    assert "--location" in capsys.readouterr().err


def test_a_malformed_universe_is_named(capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "evil/x")
    assert main(command()) == command_line.MISUSED
    assert capsys.readouterr().err == (
        "doctor: error: GOOGLE_CLOUD_UNIVERSE_DOMAIN: 'evil/x' is not of the form googleapis.com\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"--conn-id": "team/google.prod-1", "--project-id": "example.com:my-project", "--timeout": "2.5"},
        {"--impersonation-chain": "a@p.iam.gserviceaccount.com, b@p.iam.gserviceaccount.com", "--project-id": "123"},
        {"--template": "a100", "--output-uri": "gs://bucket", "--source": "gs://bucket/n.ipynb"},
        {"--template": "projects/p/locations/us-central1/notebookRuntimeTemplates/7", "--output-uri": "gs://bucket/a/"},
        {"--source": "projects/p/locations/europe-west1/repositories/r", "--service-account": "117"},
        {"--api-endpoint": "x.p.googleapis.com", "--service-account": "a@p.iam.gserviceaccount.com"},
    ],
)
def test_good_values_are_taken(capsys, options):
    assert main(command(**options)) == command_line.PASSED
    assert capsys.readouterr() == ("", "")


@given(st.sampled_from([*BAD]), st.text(max_size=60))
def test_any_text_is_taken_or_refused(flag, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_nbjob.doctor.checks.Examination.checks", lambda _: iter(()))
        assert main(command(**{flag: value})) in (command_line.PASSED, command_line.MISUSED)
