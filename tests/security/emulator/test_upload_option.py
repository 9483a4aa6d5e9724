"""`--upload` takes a folder that is one, by its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_nbjob.emulator.__main__ import parser


@pytest.mark.parametrize("form", ["{}", "{}/", "{}//", "{}/.", "{}/./"])
def test_a_folder_that_is_a_symbolic_link_is_refused(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(SystemExit):
        parser().parse_args(["--upload", f"{form.format(tmp_path / 'link')}=gs://bucket/folder"])
    assert "is a symbolic link" in capsys.readouterr().err


def test_a_folder_below_a_link_is_taken(tmp_path: Path) -> None:
    (tmp_path / "real" / "notebooks").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folder = tmp_path / "link" / "notebooks"
    assert parser().parse_args(["--upload", f"{folder}=gs://b/f"]).upload == [(folder, "gs://b/f")]
