"""What reading a large notebook takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.notebooks import code, display, notebook, stream

pytestmark = pytest.mark.test_all  # each writes and reads 200 MB

SIZE = 200_000_000

SCRIPT = """
import json, resource, sys
from pathlib import Path
import ijson
from airflow_provider_nbjob.notebook.executed import read_executed
from airflow_provider_nbjob.notebook.results import collect_results

def peak():
    "In bytes. Linux's getrusage counts the parent's too, from before this program was started."
    if sys.platform == "linux":
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
with open(sys.argv[1], "rb") as stream:
    if sys.argv[2] == "whole":
        json.load(stream)
    else:
        assert collect_results(read_executed(stream, keep_outputs=True)).values == {"result": 1}
print(peak() - before)
"""


def taken(path: Path, how: str) -> int:
    """What reading a notebook takes at most, in bytes."""
    command = [sys.executable, "-c", SCRIPT, str(path), how]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def write(path: Path, shape: str) -> None:
    """A notebook of `SIZE` bytes, made of pieces so that this process does not hold it."""
    hole = "@hole@"
    last = code("1", {"output_type": "execute_result", "data": {"text/plain": "1"}}, tags=("result",))
    if shape == "lines":
        before, _, after = notebook(code("", stream([hole])), last).partition(json.dumps(hole).encode())
        piece, end = b'"' + b"x" * 798 + b'\\n", ', b'""'
    else:
        before, _, after = notebook(code("", display({"image/png": hole})), last).partition(hole.encode())
        gap = b'"}},{"output_type":"display_data","data":{"image/png":"'
        piece, end = (b"iVBORw0KGgo=" * 85_000 + (gap if shape == "images" else b"")), b""
    with path.open("wb") as file:
        file.write(before)
        for _ in range(SIZE // len(piece)):
            file.write(piece)
        file.write(end + after)


@pytest.mark.parametrize("shape", ["images", "one image", "lines"])
def test_a_notebook_of_200_mb_takes_little_memory(tmp_path: Path, shape: str):
    path = tmp_path / "large.ipynb"
    write(path, shape)
    assert path.stat().st_size > SIZE * 0.98
    memory = taken(path, "as a stream")
    path.unlink()
    print(f"{shape}: {memory / 1e6:.0f} MB")
    assert memory < 60_000_000, "twice its size is what it may take, a few times the longest text what it does"


def test_the_measure_itself_sees_a_notebook_that_is_held(tmp_path: Path):
    path = tmp_path / "large.ipynb"
    write(path, "one image")
    assert taken(path, "whole") > SIZE
    path.unlink()
