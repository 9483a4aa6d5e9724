"""Draw small charts of the last runs of a task: their durations and ends, and notes on slow and failed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from markupsafe import Markup, escape

from airflow_provider_nbjob.plugins.notebook_jobs.durations import duration_text
from airflow_provider_nbjob.plugins.notebook_jobs.listing import JobRow

BAR, STEP = 9, 12  # width of a bar, and distance from one to the next; in user units, which are CSS pixels
MARK, PLOT = 9, 40  # height of the space for marks above the bars, and of the longest bar
SLOW = 2  # multiple of the median from which on a run is slow
ENOUGH = 3  # ended runs that a median needs


@dataclass(frozen=True)
class Bar:
    """One run. Lengths are in user units, from the top left.

    :param label: the facts that the bar shows, in words
    """

    run: JobRow
    x: int
    y: float
    height: float
    label: str

    def svg(self, base: str) -> str:
        """Return the bar as a link. A cross above it shows, without colour, that the run failed."""
        cross = f'<path class="mark" d="M{self.x + 2} {self.y - 7:g}l5 5m0 -5l-5 5"/>' if self.run.has_failed else ""
        kind = "bar open" if self.run.goes_on else "bar"
        return (
            f'<a href="{escape(base)}task?{escape(self.run.task.query())}" data-state="{escape(self.run.state)}">'
            f"<title>{escape(self.label)}</title>"
            f'<rect class="area" x="{self.x - 1}" width="{STEP}" height="{MARK + PLOT}"/>'
            f'<rect class="{kind}" x="{self.x}" y="{self.y}" width="{BAR}" height="{self.height}"/>{cross}</a>'
        )


@dataclass(frozen=True)
class Chart:
    """The last runs of a task, oldest first.

    :param median: median duration of the ended runs in seconds; None if no run has ended
    :param median_y: position of the median's line
    :param notes: sentences with numbers, by ``slow`` and ``flaky``
    """

    dag_id: str
    task_id: str
    bars: Sequence[Bar]
    failed: int
    median: float | None
    median_y: float
    notes: Mapping[str, str]

    @property
    def width(self) -> int:
        """Return the width of all bars."""
        return max(1, len(self.bars)) * STEP

    @property
    def height(self) -> int:
        """Return the height of marks and bars."""
        return MARK + PLOT

    def svg(self, base: str) -> Markup:
        """Return the chart as markup. Each bar links to the page of its try.

        The markup is not made by a template, because a page has up to a thousand bars.

        :param base: URL path of this application, with a closing slash
        """
        line = f'<line class="median" x1="0" x2="{self.width}" y1="{self.median_y}" y2="{self.median_y}"/>'
        return Markup(  # noqa: S704  all texts of others are escaped
            f'<svg class="chart" role="group" aria-label="Durations, oldest first: {escape(self.summary)}"'
            f' width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}">'
            f"{''.join(bar.svg(base) for bar in self.bars)}{line if len(self.bars) > 1 and self.median else ''}</svg>"
        )

    @property
    def summary(self) -> str:
        """Return the chart in one line of text."""
        number = len(self.bars)
        runs = "1 run" if number == 1 else f"{number} runs"
        parts = [f"{self.failed} of {runs} failed" if self.failed else runs]
        if self.median is not None:
            parts.append(f"median {duration_text(self.median)}")
        return ", ".join(parts)


def charts_of(runs: Mapping[tuple[str, str], Sequence[JobRow]], now: datetime) -> list[Chart]:
    """Return a chart for each task; those with notes come first.

    :param runs: the runs of each task, oldest first, by the ids of DAG and task
    :param now: UTC; the end of the durations of runs that have not ended
    """
    charts = [_chart(task, of_task, now) for task, of_task in runs.items()]
    return sorted(charts, key=lambda chart: (-len(chart.notes), chart.dag_id, chart.task_id))


def _chart(task: tuple[str, str], runs: Sequence[JobRow], now: datetime) -> Chart:
    took = [run.seconds(now) or 0.0 for run in runs]
    over = [seconds for run, seconds in zip(runs, took, strict=True) if run.ended]
    middle = median(over) if over else None
    longest = max(took, default=0) or 1.0
    bars = []
    for number, (run, seconds) in enumerate(zip(runs, took, strict=True)):
        height = max(2.0, round(PLOT * seconds / longest, 1))  # so that the shortest is visible
        y = round(MARK + PLOT - height, 1)
        bars.append(Bar(run, x=number * STEP + 1, y=y, height=height, label=_label(run, now)))
    return Chart(
        *task,
        bars=bars,
        failed=sum(run.has_failed for run in runs),
        median=middle,
        median_y=round(MARK + PLOT * (1 - (middle or 0) / longest), 1),
        notes=_notes(runs, took, middle if len(over) >= ENOUGH else None),
    )


def _notes(runs: Sequence[JobRow], took: Sequence[float], middle: float | None) -> dict[str, str]:
    notes = {}
    if middle is not None and took[-1] > SLOW * middle:
        so_far = " so far" if runs[-1].goes_on else ""
        notes["slow"] = f"the last took {duration_text(took[-1])}{so_far}, the median is {duration_text(middle)}"
    failed = sum(run.has_failed for run in runs)
    if failed and any(run.state == "JOB_STATE_SUCCEEDED" and not run.has_failed for run in runs):
        notes["flaky"] = f"{failed} of {len(runs)} failed"
    return notes


def _label(run: JobRow, now: datetime) -> str:
    state = run.state.removeprefix("JOB_STATE_").replace("_", " ").lower()
    ended = f"{state}, the task failed" if run.has_failed and state != "failed" else state
    seconds = run.seconds(now)
    took = "duration not known" if seconds is None else duration_text(seconds)
    mapped = "" if run.task.map_index < 0 else f" [{run.rendered_map_index or run.task.map_index}]"
    return f"run {run.task.run_id}{mapped}, try {run.task.try_number}, {ended}, {took}"
