"""Dataform, as much of it as notebooks need: repositories as folders, or git repositories, below the data directory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from google.api_core.exceptions import InvalidArgument, NotFound
from google.cloud.dataform_v1.types import (
    DirectoryEntry,
    QueryRepositoryDirectoryContentsResponse,
    ReadRepositoryFileResponse,
)

from airflow_provider_nbjob.emulator.validation import REPOSITORY


class Repository:
    """One repository, at a commit or as it stands.

    :param data_dir: holds repositories as folders ``dataform/NAME``
    :param name: ``projects/{project}/locations/{location}/repositories/{repository}``
    :raises NotFound: where there is no such repository or commit
    """

    def __init__(self, data_dir: Path, name: str, commit_sha: str = "") -> None:
        match = REPOSITORY.fullmatch(name)
        if match is None:
            raise InvalidArgument(f"Not a repository: {name}")
        self._name = name
        self._folder = data_dir / "dataform" / match["id"]
        self._revision = commit_sha or "HEAD"
        if not self._folder.is_dir():
            raise NotFound(f"{self} was not found.")
        self._is_git = (self._folder / ".git").exists()
        if commit_sha and not self._is_git:
            raise NotFound(f"{self} has no commits, so none is {commit_sha}.")

    def __str__(self) -> str:
        return f"Repository {self._name}"

    def files(self) -> list[str]:
        """The names of the files in its root."""
        if self._is_git:
            return self._git("ls-tree", "--name-only", self._revision).decode().splitlines()
        return sorted(path.name for path in self._folder.iterdir())

    def read(self, file: str) -> bytes:
        """The content of a file in its root.

        :raises NotFound: where there is none of that name
        """
        if file not in self.files():
            raise NotFound(f"{self} has no file {file}.")
        return self._git("show", f"{self._revision}:{file}") if self._is_git else (self._folder / file).read_bytes()

    def _git(self, *arguments: str) -> bytes:
        # The repository belongs to whoever started the emulator, also where git would doubt it (a mounted folder).
        command = ["git", "-c", f"safe.directory={self._folder}", *arguments]
        try:
            run = subprocess.run(command, cwd=self._folder, capture_output=True, check=True, timeout=60)
        except FileNotFoundError:
            raise NotFound("git is needed to read a Dataform repository that is a git repository.") from None
        except subprocess.CalledProcessError as error:
            raise NotFound(error.stderr.decode(errors="replace").strip()) from None
        return run.stdout


class Dataform:
    """The two methods that read a repository's notebook."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def query_directory(self, request: Any) -> Any:
        """`QueryRepositoryDirectoryContents`, of the root."""
        files = Repository(self._data_dir, request.name, request.commit_sha).files()
        entries = [DirectoryEntry(file=file) for file in files]
        response = QueryRepositoryDirectoryContentsResponse(directory_entries=entries)
        return QueryRepositoryDirectoryContentsResponse.pb(response)

    def read_file(self, request: Any) -> Any:
        """`ReadRepositoryFile`."""
        content = Repository(self._data_dir, request.name, request.commit_sha).read(request.path)
        return ReadRepositoryFileResponse.pb(ReadRepositoryFileResponse(contents=content))
