"""What the log shows: enough to find the fault, and nothing that acts on the log."""

from __future__ import annotations

import io
import pickle

from airflow_provider_nbjob.exceptions import JobFailed
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed
from airflow_provider_nbjob.notebook.report import failure_report, output_lines
from tests.support.notebooks import code, error, notebook, stream

EVIL = "a\r\n::endgroup::\n  ::group::x\n##[endgroup]\x1b[2J\x07\u2028::ENDGROUP::\ud800"


def read(*cells, **options) -> ExecutedNotebook:
    return read_executed(io.BytesIO(notebook(*cells)), **options)


def report(*cells) -> list[str]:
    executed = read(*cells)
    assert executed.failing_cell
    return failure_report(executed, executed.failing_cell)


def test_a_report_shows_number_source_exception_and_traceback():
    fault = error("KeyError", "'day'", "\x1b[31mTraceback\x1b[0m (most recent call last)\nx", "KeyError: 'day'")
    assert report(code("1"), code("rows = {}\n\trows['day']", fault, execution_count=4)) == [
        "::group::Cell 2 failed: KeyError: 'day'",
        "Cell 2 of 2, execution 4:",
        "  | rows = {}",
        "  | \trows['day']",
        "It raised:",
        "  KeyError: 'day'",
        "Traceback:",
        "  Traceback (most recent call last)",
        "  x",
        "  KeyError: 'day'",
        "::endgroup::",
    ]


def test_a_cell_that_did_not_fail_has_no_report():
    executed = read(code("1"))
    assert failure_report(executed, executed.cells[0]) == []


def test_no_text_of_the_notebook_acts_on_the_log():
    lines = report(code(EVIL, error(EVIL, EVIL, EVIL)))
    lines += output_lines(read(code("", stream(EVIL), error(EVIL, EVIL, EVIL)), keep_outputs=True))
    groups = [line for line in lines if "group::" in line or "[endgroup" in line]
    assert [line.split("::")[1] for line in groups if line.startswith("::")] == ["group", "endgroup"] * 2
    for line in lines:
        assert (
            line.lstrip(":").lower().count("::group::") + line[1:].lower().count("::endgroup::") == 0 or line in groups
        )
        assert "##[" not in line
        assert line.isprintable() or "\t" in line
        assert line.encode()
    assert sum("::group::" in line.lower() for line in lines) == 2
    assert sum("::endgroup::" in line.lower() for line in lines) == 2


def test_a_huge_report_is_cut():
    source = "\n".join(f"x = {number}" for number in range(100_000))
    lines = report(code(source, error("E" * 100_000, "v" * 100_000, *["frame"] * 100_000)))
    assert sum(map(len, lines)) < 60_000
    assert len(lines[0]) < 300
    assert sum("characters left out" in line for line in lines) >= 3


def test_a_progress_bar_shows_its_last_state():
    (_, line, _) = output_lines(read(code("", stream("10%\r50%\r100%\r\n")), keep_outputs=True))
    assert line == "  100%"


def test_outputs_come_cell_by_cell_up_to_a_limit():
    executed = read(code("", stream("one\ntwo\n")), code("x"), code("", stream("y" * 50)), keep_outputs=True)
    assert list(output_lines(executed))[:4] == ["::group::Output of cell 1", "  one", "  two", "::endgroup::"]
    cut = "The outputs of 1 more cells are left out; they are in the output notebook."
    assert list(output_lines(executed, max_chars=20))[4:] == [cut]


def test_a_failed_job_carries_its_cell_wherever_it_goes():
    failed = JobFailed("Notebook job j ended.", cell=2, ename="KeyError", evalue="'x'", traceback="t")
    for same in (pickle.loads(pickle.dumps(failed)), never_retried(failed)):
        assert isinstance(same, JobFailed)
        assert str(same) == "Notebook job j ended."
        assert (same.cell, same.ename, same.evalue, same.traceback) == (2, "KeyError", "'x'", "t")
    assert vars(JobFailed("short")) == dict.fromkeys(["cell", "ename", "evalue", "traceback"])
