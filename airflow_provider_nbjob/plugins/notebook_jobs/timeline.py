"""Lay out the steps of a job in time, for a drawing and a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_provider_nbjob.plugins.notebook_jobs.job_view import JobView

WIDTH = 1000.0  # of the drawing, in its own units
MIN_WIDTH = 6.0  # of a step, so that a short one is visible


@dataclass(frozen=True)
class Step:
    """The time that a job spent in a state.

    :param state: the state's name in the API; ``SUBMITTED`` for the time before the first state was seen
    :param end: None for the final state of a job that has ended
    :param x: left edge in the drawing, in the unit of `WIDTH`
    :param width: in the same unit
    """

    state: str
    begin: datetime
    end: datetime | None
    x: float = 0.0
    width: float = 0.0

    @property
    def seconds(self) -> float | None:
        """Return the duration; None if the step has no end."""
        return (self.end - self.begin).total_seconds() if self.end else None


def steps_of(view: JobView, now: datetime) -> list[Step]:
    """Return the steps of a job since its submission; an empty list if none is known."""
    seen = [(str(state), datetime.fromtimestamp(since, timezone.utc)) for state, since in view.steps.seen]
    begins = [("SUBMITTED", view.created), *seen] if view.created else seen
    ends: list[datetime | None] = [begin for _, begin in begins[1:]]
    if begins:
        ends.append(now if view.is_active else None)
    steps = [Step(state, begin, end) for (state, begin), end in zip(begins, ends, strict=True)]
    return _drawn(steps)


def _drawn(steps: list[Step]) -> list[Step]:
    lengths = [max(0.0, step.seconds or 0.0) for step in steps]
    room = WIDTH - MIN_WIDTH * len(steps)
    total = sum(lengths) or 1.0
    drawn, x = [], 0.0
    for step, length in zip(steps, lengths, strict=True):
        width = MIN_WIDTH + room * length / total
        drawn.append(Step(step.state, step.begin, step.end, round(x, 1), round(width, 1)))
        x += width
    return drawn
