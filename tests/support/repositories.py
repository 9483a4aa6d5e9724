"""Git repositories that stand for those of Dataform, as the emulator reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def make_dataform_repository(data_dir: Path, name: str, notebook: Path) -> Path:
    """A git repository that holds one notebook, where the emulator looks for Dataform repositories."""
    repository = data_dir / "dataform" / name
    repository.mkdir(parents=True)
    shutil.copy(notebook, repository / "content.ipynb")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    return repository


def commit(repository: Path, **files: bytes) -> str:
    """Commit files, named without `.ipynb`, as all that there is; the commit's SHA."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
        return subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout.strip()

    if not repository.exists():
        repository.mkdir()
        git("init", "-q")
    for path in repository.glob("*.ipynb"):
        path.unlink()
    for name, content in files.items():
        (repository / f"{name}.ipynb").write_bytes(content)
    git("add", "-A")
    git("commit", "-qm", "a commit")
    return git("rev-parse", "HEAD")
