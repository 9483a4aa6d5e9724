"""Emulate the part of Dataform that notebooks need, with folders or git repositories below the data directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from google.api_core.exceptions import InvalidArgument, NotFound, ServiceUnavailable
from google.cloud.dataform_v1.types import (
    DirectoryEntry,
    QueryRepositoryDirectoryContentsResponse,
    ReadRepositoryFileResponse,
)
from google.protobuf.message import Message

from airflow_provider_nbjob.emulator.data_dir import read_regular
from airflow_provider_nbjob.emulator.validation import COMMIT_SHA, REPOSITORY

FILE_MAX = 32 * 2**20  # bytes of a file
GIT_SECONDS = 10  # for one command
# A repository may come from anybody, and its configuration can name programs and servers. These variables override
# it. Git fetches no object, by no protocol: git before 2.45 does not know GIT_NO_LAZY_FETCH, and obeys
# GIT_ALLOW_PROTOCOL. Git reads no other configuration. It checks who owns the folder; nothing overrides
# `safe.directory`.
_GIT_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "HOME": os.devnull,
    "LC_ALL": "C",
}
_GIT = (
    *("git", "--no-pager", "--no-optional-locks", "--literal-pathspecs"),
    *("-c", "protocol.allow=never", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"),
)


class _Blob(NamedTuple):
    """A file of a commit.

    :param size: in bytes
    """

    object_id: str
    size: int


class Repository:
    """A repository, at a commit or in its present state.

    Its files are the regular files: no symbolic link is followed, in a folder or in a commit.

    :param data_dir: holds repositories as folders ``dataform/NAME``
    :param name: ``projects/{project}/locations/{location}/repositories/{repository}``
    :param commit_sha: 4 to 64 hexadecimal digits, or an empty text
    :raises InvalidArgument: if name or SHA are of another form
    :raises NotFound: if there is no such repository
    """

    def __init__(self, data_dir: Path, name: str, commit_sha: str = "") -> None:
        match = REPOSITORY.fullmatch(name)
        if match is None:
            raise InvalidArgument(f"Not a repository: {name}")
        if commit_sha and not COMMIT_SHA.fullmatch(commit_sha):
            raise InvalidArgument(f"{commit_sha!r} is not the SHA of a commit.")
        self._name = name
        self._folder = data_dir / "dataform" / match["id"]
        self._commit_sha = commit_sha
        git = self._folder / ".git"
        if not self._folder.is_dir() or self._folder.is_symlink() or git.is_symlink():
            raise NotFound(f"{self} was not found.")
        self._is_git = git.exists()
        if commit_sha and not self._is_git:
            raise NotFound(f"{self} has no commits, so none is {commit_sha}.")

    def __str__(self) -> str:
        return f"Repository {self._name}"

    def files(self) -> list[str]:
        """Return the names of the files in its root.

        :raises NotFound: if there is no such commit, or git does not read the repository
        """
        if self._is_git:
            return sorted(self._blobs())
        return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False))

    def read(self, file: str) -> bytes:
        """Return the content of a file in its root.

        :raises NotFound: if there is none of that name, or it has more than `FILE_MAX` bytes
        """
        missing = NotFound(f"{self} has no file {file}.")
        if not self._is_git:
            if file not in self.files():
                raise missing
            try:
                return read_regular(self._folder / file, FILE_MAX)
            except OSError as error:
                raise NotFound(f"{self}: {error}") from None
        blob = self._blobs().get(file)
        if blob is None:
            raise missing
        if blob.size > FILE_MAX:
            raise NotFound(f"{self}: {file} has more than {FILE_MAX} bytes.")
        return self._git("cat-file", "blob", blob.object_id)

    def _blobs(self) -> dict[str, _Blob]:
        if self._has_alternates():
            raise NotFound(
                f"{self} takes objects from another repository (objects/info/alternates), which is not read."
            )
        wanted = f"{self._commit_sha or 'HEAD'}^{{commit}}"
        commit = self._git("rev-parse", "--verify", "--quiet", wanted).decode().strip()
        if not commit.startswith(self._commit_sha):  # a branch may have the beginning of a SHA as its name
            raise NotFound(f"{self} has no commit {self._commit_sha}.")
        listed = self._git("ls-tree", "-z", "--long", "--full-tree", commit).decode(errors="surrogateescape")
        blobs = {}
        for entry in listed.split("\0")[:-1]:
            description, _, name = entry.partition("\t")
            mode, _, object_id, size = description.split()
            if mode in ("100644", "100755") and size.isdigit():  # no digits: the content is missing
                blobs[name] = _Blob(object_id, int(size))
        return blobs

    def _has_alternates(self) -> bool:
        folder = Path(os.fsdecode(self._git("rev-parse", "--git-common-dir").rstrip(b"\n")))
        return (self._folder / folder / "objects" / "info" / "alternates").exists()

    def _git(self, *arguments: str) -> bytes:
        environment = {**_GIT_ENVIRONMENT, "PATH": os.environ.get("PATH", os.defpath)}
        environment["GIT_CEILING_DIRECTORIES"] = str(self._folder.parent)
        try:
            run = subprocess.run(
                [*_GIT, *arguments],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=GIT_SECONDS,
            )
        except FileNotFoundError:
            raise NotFound("git is needed to read a Dataform repository that is a git repository.") from None
        except subprocess.TimeoutExpired:
            raise ServiceUnavailable(f"{self}: git did not answer in {GIT_SECONDS} s.") from None
        except subprocess.CalledProcessError as error:
            message = error.stderr.decode(errors="replace").strip()
            if "safe.directory" in message:
                message += "\nThe emulator reads no such setting: have the folder belong to the user who starts it."
            raise NotFound(message or f"{self} has no commit {self._commit_sha or 'HEAD'}.") from None
        return run.stdout


class Dataform:
    """Serve the two methods that read a repository's notebook."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def query_directory(self, request: Any) -> Message:
        """Serve `QueryRepositoryDirectoryContents`, for the root folder only."""
        files = Repository(self._data_dir, request.name, request.commit_sha).files()
        entries = [DirectoryEntry(file=file) for file in files if _is_text(file)]
        response = QueryRepositoryDirectoryContentsResponse(directory_entries=entries)
        message: Message = QueryRepositoryDirectoryContentsResponse.pb(response)
        return message

    def read_file(self, request: Any) -> Message:
        """Serve `ReadRepositoryFile`."""
        content = Repository(self._data_dir, request.name, request.commit_sha).read(request.path)
        message: Message = ReadRepositoryFileResponse.pb(ReadRepositoryFileResponse(contents=content))
        return message


def _is_text(name: str) -> bool:
    """Return whether the API can name a file: its names are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
