"""The emulator reads Dataform repositories of strangers, and does nothing that they say."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from google.api_core.exceptions import InvalidArgument, NotFound

from airflow_provider_nbjob.emulator import dataform
from airflow_provider_nbjob.emulator.dataform import Repository

NAME = "projects/p/locations/us-central1/repositories/r"
IDENTITY = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"]


def git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return run.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A git repository with one notebook, where the emulator looks for it."""
    made = tmp_path / "dataform" / "r"
    made.mkdir(parents=True)
    git(made, "init", "-q", "-b", "main")
    (made / "content.ipynb").write_text("{}")
    git(made, "add", ".")
    git(made, "commit", "-qm", "first")
    return made


def test_a_repository_is_read_as_it_stands_and_at_a_commit(tmp_path: Path, folder: Path) -> None:
    first = git(folder, "rev-parse", "HEAD")
    (folder / "content.ipynb").write_text('{"cells": []}')
    git(folder, "commit", "-qam", "second")
    assert Repository(tmp_path, NAME).files() == ["content.ipynb"]
    assert Repository(tmp_path, NAME).read("content.ipynb") == b'{"cells": []}'
    assert Repository(tmp_path, NAME, first).read("content.ipynb") == b"{}"
    assert Repository(tmp_path, NAME, first[:7]).read("content.ipynb") == b"{}"


@pytest.mark.parametrize(
    "sha",
    [
        *(
            "HEAD",
            "main",
            "HEAD~1",
            "abc",
            "a" * 65,
            "ABCDEF12",
            "--help",
            "-abcd",
            "--output=x",
            "abcd:x",
            "abcd^{tree}",
        ),
        *("abcd\n", "\u0661234", " abcd", "abcd..beef", "refs/heads/main", "@{-1}", ":/first", "abcd\0"),
    ],
)
def test_only_hexadecimal_digits_name_a_commit(tmp_path: Path, folder: Path, sha: str) -> None:
    with pytest.raises(InvalidArgument, match="not the SHA of a commit"):
        Repository(tmp_path, NAME, sha)


def test_digits_name_no_branch_and_no_other_object(tmp_path: Path, folder: Path) -> None:
    git(folder, "branch", "beef")
    git(folder, "tag", "cafe")
    for sha in (
        "beef",
        "cafe",
        "0000",
        "0" * 40,
        git(folder, "rev-parse", "HEAD^{tree}"),
        git(folder, "rev-parse", "HEAD:content.ipynb"),
    ):
        with pytest.raises(NotFound):
            Repository(tmp_path, NAME, sha).files()


# --- what a repository's configuration can name ---


def make_partial(folder: Path, tmp_path: Path, url: str, *settings: str) -> None:
    """Have the content of the notebook be missing, to be fetched from a promisor remote."""
    git(folder, "config", "core.repositoryformatversion", "1")
    for name, value in {
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": url,
        "remote.origin.partialclonefilter": "blob:none",
    }.items():
        git(folder, "config", name, value)
    for setting in settings:
        name, _, value = setting.partition("=")
        git(folder, "config", name, value)
    blob = git(folder, "rev-parse", "HEAD:content.ipynb")
    (folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()


def program(tmp_path: Path) -> Path:
    """A program that leaves a mark."""
    made = tmp_path / "program"
    made.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(tmp_path / 'ran'))}\n")
    made.chmod(0o755)
    return made


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("{source}", ["remote.origin.uploadpack={program}"]),
        ("file://{source}", ["remote.origin.uploadpack={program}", "protocol.file.allow=always"]),
        ("ext::{program} %S", ["protocol.ext.allow=always", "protocol.allow=always"]),
        ("ssh://127.0.0.1:1/x", ["core.sshCommand={program}", "protocol.ssh.allow=always"]),
        ("127.0.0.1:x", ["core.sshCommand={program}"]),
        ("git://127.0.0.1:1/x", ["core.gitProxy={program}", "protocol.git.allow=always"]),
        ("http://127.0.0.1:1/x", ["credential.helper=!{program}", "protocol.http.allow=always"]),
        ("{source}", ["remote.origin.vcs=ext", "remote.origin.uploadpack={program}", "protocol.ext.allow=always"]),
    ],
)
def test_a_promisor_remote_is_not_fetched_from(tmp_path: Path, folder: Path, url: str, settings: list[str]) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    values = {"source": source, "program": program(tmp_path)}
    make_partial(folder, tmp_path, url.format(**values), *(setting.format(**values) for setting in settings))
    repository = Repository(tmp_path, NAME)
    with pytest.raises(NotFound):
        repository.read("content.ipynb")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "core.fsmonitor={program}",
            "core.pager={program}",
            "core.editor={program}",
            "core.alternateRefsCommand={program}",
        ),
        *(
            "filter.x.smudge={program}",
            "diff.x.textconv={program}",
            "diff.external={program}",
            "alias.ls-tree=!{program}",
        ),
        *("core.hooksPath={hooks}", "gpg.program={program}", "interactive.diffFilter={program}", "include.path=evil"),
    ],
)
def test_no_program_of_the_configuration_runs(tmp_path: Path, folder: Path, setting: str) -> None:
    values = {"program": program(tmp_path), "hooks": tmp_path / "hooks"}
    (tmp_path / "hooks").mkdir()
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"):
        (tmp_path / "hooks" / hook).symlink_to(tmp_path / "program")
    (folder / ".git" / "evil").write_text(f"[core]\n\tfsmonitor = {tmp_path / 'program'}\n")
    (folder / ".gitattributes").write_text("*.ipynb filter=x diff=x\n")
    git(folder, "add", ".gitattributes")
    git(folder, "commit", "-qm", "attributes")
    name, _, value = setting.format(**values).partition("=")
    git(folder, "config", name, value)
    assert Repository(tmp_path, NAME).read("content.ipynb") == b"{}"
    assert not (tmp_path / "ran").exists()


def test_a_repository_of_another_user_is_refused_with_gits_message(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dataform._GIT_ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for sha in ("", git(folder, "rev-parse", "HEAD")):
        with pytest.raises(NotFound, match="dubious ownership"):
            Repository(tmp_path, NAME, sha).files()


def test_no_setting_of_the_user_makes_an_exception(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "*")
    monkeypatch.setenv("GIT_DIR", str(folder / ".git"))
    monkeypatch.setitem(dataform._GIT_ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(NotFound, match="dubious ownership"):
        Repository(tmp_path, NAME).files()


def test_objects_of_another_repository_are_not_read(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "private"
    shutil.copytree(folder, other)
    (other / "content.ipynb").write_text('{"secret": true}')
    git(other, "commit", "-qam", "secret")
    (folder / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "objects" / "info" / "alternates").write_text(f"{other / '.git' / 'objects'}\n")
    for sha in ("", git(other, "rev-parse", "HEAD")):
        with pytest.raises(NotFound, match="alternates"):
            Repository(tmp_path, NAME, sha).read("content.ipynb")


@pytest.mark.parametrize("content", ["", "gitdir: /nowhere", "x" * 100])
def test_a_repository_that_is_none_is_not_looked_for_above(tmp_path: Path, content: str) -> None:
    git(tmp_path, "init", "-q")
    made = tmp_path / "dataform" / "r"
    made.mkdir(parents=True)
    if content:
        (made / ".git").write_text(content)
    else:
        (made / ".git").mkdir()
    with pytest.raises(NotFound):
        Repository(tmp_path, NAME).files()


# --- files ---

ODD = [
    "-x.ipynb",
    "--help.ipynb",
    "a b.ipynb",
    "ö.ipynb",
    'q"uote.ipynb',
    "new\nline.ipynb",
    "*.ipynb",
    ":(top)x.ipynb",
]


@pytest.mark.parametrize("is_git", [False, True])
def test_a_name_is_a_name_and_nothing_else(tmp_path: Path, folder: Path, is_git: bool) -> None:
    (folder / "sub").mkdir()
    for name in [*ODD, "sub/below.ipynb"]:
        (folder / name).write_text(name)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "odd")
    if not is_git:
        shutil.rmtree(folder / ".git")
    repository = Repository(tmp_path, NAME)
    assert repository.files() == sorted([*ODD, "content.ipynb"])
    for name in ODD:
        assert repository.read(name) == name.encode()
    for name in (
        "sub/below.ipynb",
        "sub",
        "../r/content.ipynb",
        "./content.ipynb",
        "",
        ".",
        "..",
        "/etc/passwd",
        "\0",
        ".git",
    ):
        with pytest.raises(NotFound):
            repository.read(name)


@pytest.mark.parametrize("is_git", [False, True])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside.ipynb", "content.ipynb", ".git/config"])
def test_a_symbolic_link_is_no_file(tmp_path: Path, folder: Path, is_git: bool, target: str) -> None:
    (tmp_path / "outside.ipynb").write_text("{}")
    (folder / "link.ipynb").symlink_to(target)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "link")
    if not is_git:
        shutil.rmtree(folder / ".git")
    repository = Repository(tmp_path, NAME)
    assert repository.files() == ["content.ipynb"]
    with pytest.raises(NotFound):
        repository.read("link.ipynb")


def test_neither_folder_nor_pipe_nor_large_file_is_read(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder / ".git")
    os.mkfifo(folder / "pipe.ipynb")
    (folder / "folder.ipynb").mkdir()
    (folder / "large.ipynb").write_text("12345")
    monkeypatch.setattr(dataform, "FILE_MAX", 4)
    repository = Repository(tmp_path, NAME)
    for name in ("pipe.ipynb", "folder.ipynb", "large.ipynb"):
        with pytest.raises(NotFound):
            repository.read(name)
    git(folder, "init", "-q")
    git(folder, "add", "large.ipynb")
    git(folder, "commit", "-qm", "large")
    with pytest.raises(NotFound, match="more than 4 bytes"):
        Repository(tmp_path, NAME).read("large.ipynb")


@pytest.mark.parametrize("what", ["repository", ".git"])
def test_a_repository_that_is_a_link_is_not_found(tmp_path: Path, folder: Path, what: str) -> None:
    if what == "repository":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        (folder / ".git").rename(tmp_path / "elsewhere")
        (folder / ".git").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound):
        Repository(tmp_path, NAME).files()


@pytest.mark.parametrize("repository", ["..", ".", ".git", "a/b", "../x", "-x", "x" * 200, "x\n", "x\0", "\u00e9"])
def test_a_repository_has_a_plain_name(tmp_path: Path, repository: str) -> None:
    with pytest.raises(InvalidArgument):
        Repository(tmp_path, f"projects/p/locations/us-central1/repositories/{repository}")
