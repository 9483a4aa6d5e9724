"""Only its owner reads the emulator's data directory, and the token in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airflow_provider_nbjob.emulator import data_dir
from airflow_provider_nbjob.emulator.__main__ import main
from airflow_provider_nbjob.emulator.data_dir import read_or_make_token, read_regular
from airflow_provider_nbjob.emulator.guard import TOKEN
from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_process import EmulatorProcess


def modes(folder: Path) -> dict[str, int]:
    """The modes of a folder and of all below it that others may use."""
    found = {str(path.relative_to(folder)): path.lstat().st_mode for path in [folder, *folder.rglob("*")]}
    return {name: stat.S_IMODE(mode) for name, mode in found.items() if mode & 0o077 and not stat.S_ISLNK(mode)}


def test_all_that_the_process_makes_is_its_users(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("payload")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_text("{}")
    data = tmp_path / "data"
    options = ["--secret", f"s={tmp_path / 'secret'}", "--upload", f"{tmp_path / 'notebooks'}=gs://bucket/n"]
    with EmulatorProcess(data, *options):
        assert modes(data) == {}
        assert (data / "secrets" / "s" / "1").read_text() == "payload"


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o750, 0o2775])
def test_a_directory_that_exists_is_closed_to_others(tmp_path: Path, mode: int) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dataform").mkdir()
    for name in ("jobs.sqlite", "notes.txt"):
        (data / name).touch()
        (data / name).chmod(0o644)
    (tmp_path / "outside").touch()
    (tmp_path / "outside").chmod(0o644)
    (data / "link").symlink_to(tmp_path / "outside")
    for folder in (data / "dataform", data):
        folder.chmod(mode)
    with Emulator(data):
        assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o644
        for name in ("dataform", "notes.txt"):
            assert stat.S_IMODE((data / name).stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(data.stat().st_mode) & 0o777 == 0o700
        assert stat.S_IMODE((data / "jobs.sqlite").stat().st_mode) == 0o600


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_dir.os, "geteuid", lambda: os.getuid() + 1)
    umask = os.umask(0o022)
    try:
        assert main(["--data-dir", str(tmp_path), "--grpc-port", "0", "--rest-port", "0", "--storage-port", "0"]) == 1
    finally:
        os.umask(umask)
    assert f"{tmp_path} belongs to another user" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_token_is_random_and_stays(tmp_path: Path) -> None:
    tokens = []
    for name in ("a", "a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        tokens.append(read_or_make_token(tmp_path / name))
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(TOKEN.fullmatch(token) and len(token) >= 32 for token in tokens)
    assert stat.S_IMODE((tmp_path / "a" / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "kind", ["readable", "writable", "link", "pipe", "folder", "empty", "short", "lines", "long", "bytes"]
)
def test_a_token_that_others_may_know_or_chose_is_replaced(tmp_path: Path, kind: str) -> None:
    path, planted = tmp_path / "token", "planted-token-0123456789"
    contents = {"empty": b"", "short": b"abc", "lines": b"a\nb" * 20, "long": b"a" * 1000, "bytes": b"\xff" * 32}
    if kind == "link":
        (tmp_path / "elsewhere").write_text(planted)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
        with pytest.raises(OSError, match="token"):
            read_or_make_token(tmp_path)
        return
    else:
        path.write_bytes(contents.get(kind, planted.encode()))
        path.chmod({"readable": 0o644, "writable": 0o620}.get(kind, 0o600))
    token = read_or_make_token(tmp_path)
    assert token != planted
    assert TOKEN.fullmatch(token)
    assert read_or_make_token(tmp_path) == token
    assert not path.is_symlink()


@pytest.mark.parametrize("value", ["short", "with space in the token", "a/b/c/d/e/f/g/h/i/j", "x" * 129])
def test_a_token_that_is_none_is_refused_and_not_shown(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        main(["--token", value])
    monkeypatch.setenv("NBJOB_EMULATOR_TOKEN", value)
    assert main([]) == 2
    with pytest.raises(SystemExit):
        main(["--help"])
    captured = capsys.readouterr()
    assert value not in captured.out + captured.err
    assert "a token is made of" in captured.err


def test_a_chosen_token_is_used_and_not_kept(tmp_path: Path) -> None:
    chosen = {"NBJOB_EMULATOR_TOKEN": "chosen-by-the-environment"}
    with EmulatorProcess(tmp_path / "a", "--token", "chosen-by-the-option", environment=chosen) as process:
        assert process.token == "chosen-by-the-option"
        assert process.calls() == {}
    assert not (tmp_path / "a" / "token").exists()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    for name, most in (("file", 4), ("link", 5), ("pipe", 5), (".", 5), ("missing", 5)):
        with pytest.raises(OSError, match=name):
            read_regular(tmp_path / name, most)
