"""Decide when the watch looks next: often while an end is likely, seldom while nothing happens.

One listing shows the end of any job of the location. So the price of a look does not depend on how many jobs wait, and
the watch can see an end within 2 s for 60 requests a minute. This module decides how long the watch pauses, without I/O
and without a clock. `Budget` decides how many requests the watch may send, and limits all that is decided here.

**Two kinds of looks.** A sweep is that of `SweepPlan.sweep`: changes, newcomers, an audit. One begins at least every
`poll_interval`. Between two sweeps the watch glances: it reads the newest page of changes, which is one request.

**When an end is likely.** `Pace` estimates how many ends a second to expect. It adds up:

- One end in the time since the last end. Ends come in bursts; after a minute without an end, it expects one a minute.
- Or, if that is more: one end in the age of the newest newcomer of an unknown task, at most one a minute.
- The ends that the durations of earlier runs of the same tasks predict, see `Durations`. If the predicted ends do not
  come, it believes in them less and less, until it sees an end.

If it expects r ends a second, the ends in a pause of p seconds will have waited for r p^2 / 2 seconds, taken together.
The watch looks when that is a sixteenth of the seconds in which the budget grants one request. With 60 requests a
minute it pauses for 1.7 s if it expects one end in 20 s, and for 10 s if it expects one in eleven minutes.

**Bounds.** `poll_interval` is the longest pause. The watch also looks more often for a user
who gives a long interval, because that costs nothing for each job. To send fewer requests, a user lowers
`[nbjob] max_requests_per_minute`. The shortest pause is 1 s, or the time in which the budget grants a request beside
those of the sweeps: 1.4 s with 60 requests a minute and a sweep in 10 s.

**Requests that stay unused.** A sixth of the budget is for bursts: newcomers, further pages, last looks. Glances take
no more than the rest, and the pauses grow when the burst is used up. While no end is likely, the watch sends as many
requests as with a fixed interval, and leaves the quota to the workers' creates and to other clients.

**If the quota refuses** a request (RESOURCE_EXHAUSTED), `Pace` halves its rate, down to a sixteenth. The rate grows
back within ten minutes. Pauses are random within bounds, so that several triggerers do not look at the same time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_nbjob.triggers.durations import Durations
from airflow_provider_nbjob.triggers.sweeps import Seen

JITTER = 0.1  # part of a pause
LOOK_SECONDS_MIN = 1.0  # between the beginnings of two looks, if the interval is not shorter
LOOK_WORTH = 1 / 16  # seconds of waiting for which one look is sent, by the seconds in which the budget grants one
END_SECONDS_MIN = 1.0  # since an end: that the next ones follow is not more likely right after it
NEWCOMER_SECONDS_MIN = 60.0  # likewise since a newcomer: a machine has to be started for it
PACE_MIN = 1 / 16  # part of the pace that the quota leaves at least
RECOVERY_SECONDS = 600.0  # after which the pace is whole again
FAILED_PAUSE_MAX = 60.0  # seconds between looks that fail, also if the interval is longer
CLOCK_SECONDS = 3600.0  # by which the API's clock may be ahead of this machine's


class Look(NamedTuple):
    """The next look: in so many seconds, and whether it is a sweep or a glance."""

    pause: float
    is_sweep: bool


@dataclass
class Pace:
    """Decides the pauses of one watch. `now` is the monotonic time, in seconds.

    :param chance: returns a random number between two
    """

    chance: Callable[[float, float], float] = random.uniform
    durations: Durations = field(default_factory=Durations)
    _began: float = -math.inf  # when the last look began
    _swept: float = -math.inf  # when the last sweep began
    _last_end: float = -math.inf  # when an end was seen
    _last_newcomer: float = -math.inf  # when a run was seen first of which nothing is known
    _expected: float = 0.0  # ends since the last one, by the durations of earlier runs
    _expected_until: float = math.inf  # when they were last counted
    _learned_until: float = -math.inf  # the API's time of the newest change that was learned from
    _share: float = 1.0  # of the pace, that the quota leaves
    _answered: float = -math.inf

    def begin(self, now: float, *, is_sweep: bool) -> None:
        """Note that a look begins."""
        self._began = now
        if is_sweep:
            self._swept = now

    def show(self, jobs: Iterable[tuple[Seen, Any]], waiting: Container[str], *, now: float, wall: float) -> None:
        """Learn from the jobs that an answer shows.

        :param jobs: what was seen of each, and its message: `display_name` and `create_time` of the API
        :param waiting: the ids of those that are waited for
        :param wall: the time in POSIX seconds
        """
        newest = self._learned_until
        for seen, message in jobs:
            if seen.job_id in waiting and seen.job_id not in self.durations and not seen.state.is_terminal:
                age = max(0.0, wall - message.create_time.seconds) if message.create_time.seconds > 0 else 0.0
                if not self.durations.add(seen.job_id, message.display_name, now - age):
                    self._last_newcomer = now
            if seen.state.is_terminal and self._learned_until < seen.update_time <= wall + CLOCK_SECONDS:
                newest = max(newest, seen.update_time)
                self.durations.learn(message.display_name, seen.update_time - message.create_time.seconds)
        self._learned_until = newest

    def leave(self, job_id: str) -> None:
        """Note that a job is waited for no longer."""
        self.durations.remove(job_id)

    def end(self, now: float) -> None:
        """Note that a job that was waited for has ended."""
        self._last_end, self._expected = now, 0.0

    def refuse(self, now: float) -> None:
        """Note that the API's quota refused a request."""
        self._share = max(PACE_MIN, self._share / 2)
        self._answered = now

    def answer(self, now: float) -> None:
        """Note that a look was answered."""
        if self._share < 1:
            self._share = min(1.0, self._share + max(0.0, now - self._answered) / RECOVERY_SECONDS)
        self._answered = now

    def next_look(
        self,
        now: float,
        interval: float,
        step: float,
        level: float,
        *,
        waiting: int,
        reads: int = 0,
        glances: bool = True,
        is_behind: bool = False,
    ) -> Look:
        """Return when the next look is due.

        :param interval: seconds between sweeps, at most
        :param step: seconds in which the budget grants one request
        :param level: part of the budget's burst that is left, above 0
        :param waiting: number of jobs that are waited for
        :param reads: number of them that a sweep reads one by one, 0 if it lists them
        :param glances: whether a glance shows what a sweep would
        :param is_behind: whether the last sweep had too few requests for all newcomers
        """
        least = min(LOOK_SECONDS_MIN, interval) / 2
        if is_behind:
            return Look(least, is_sweep=True)
        if 0 < reads < waiting:
            interval *= reads / waiting  # between two reads of a job
        glances = glances and waiting > 1
        price = max(1, reads) * step
        gap = self._gap(now, interval, step, self._least(interval, step, level, price if glances else 0.0))
        at = max(self._began + max(gap * self._jitter(), step if glances else price), now + least)
        is_sweep = True
        if glances:
            sweep_at = self._swept + max(interval * self._jitter(), price)
            is_rest = gap >= interval * (1 - JITTER)
            is_sweep = is_rest or at + least >= sweep_at
            at = sweep_at if is_rest else min(at, sweep_at)
        return Look(max(least, min(at - now, max(interval, price))), is_sweep)

    def _least(self, interval: float, step: float, level: float, price: float) -> float:
        """Return the fewest seconds between two looks.

        :param price: seconds in which the budget grants a sweep. Glances have the others, or half of them if the burst
            is used up
        """
        left = 1 - price / interval
        granted = step / left * 2 / (1 + level) if left > 0 else interval
        return max(LOOK_SECONDS_MIN, granted) / self._share

    def _gap(self, now: float, interval: float, step: float, least: float) -> float:
        """Return the seconds between two looks, before jitter."""
        rate, opens_in = self.durations.outlook(now)
        self._expected += rate * max(0.0, now - self._expected_until)
        self._expected_until = now
        since_end = max(END_SECONDS_MIN, now - self._last_end)
        rate = rate / (1 + self._expected) + 1 / min(since_end, max(NEWCOMER_SECONDS_MIN, now - self._last_newcomer))
        gap = math.sqrt(2 * LOOK_WORTH * step / rate) if rate else interval
        return min(interval, max(least, min(gap, opens_in)))

    def pause_after_failures(self, failures: int, interval: float) -> float:
        """Return the seconds until the next look after so many that failed, one after the other."""
        longest = min(FAILED_PAUSE_MAX, interval * 2.0 ** min(failures - 1, 10))
        return longest * self.chance(0.5, 1.0)

    def _jitter(self) -> float:
        return self.chance(1 - JITTER, 1.0)
