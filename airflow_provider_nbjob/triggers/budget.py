"""Share the requests of a minute among all who poll the jobs of one project and region.

The API's quota is by project and region, whichever connection asks. The budget is one triggerer process's.

Members send no more requests in any 60 seconds than the budget has, also after a pause, and also if members come and
go. The budget is a leaky bucket: a sixth of the requests may be sent at once, the others one by one over the minute.
Known gap: the request that the hook repeats after UNAUTHENTICATED, and further pages of a schedule's jobs, are not
counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from airflow_provider_nbjob.triggers.settings import whole_number

REQUESTS_PER_MINUTE = 60  # of `[nbjob] max_requests_per_minute`; get_provider_info.py repeats it
BURST_PART = 1 / 6  # of them may be sent at once
WINDOW_SECONDS = 61.0  # a minute, and a second in which requests may overtake each other on their way


class Bucket:
    """A leaky bucket. Each request fills it by one, and one leaks out in `step` seconds; it holds `burst`.

    `now` is the monotonic time in seconds.
    """

    def __init__(self) -> None:
        self._empty_at = 0.0  # by the monotonic clock

    def seconds_until_turn(self, now: float, step: float, burst: float) -> float:
        """Return the seconds until there is room for a request, 0 if there is."""
        wait = self.seconds_until_empty(now, step, burst) - (burst - 1) * step
        return max(0.0, round(wait, 6))  # no timer is more precise

    def fill(self, seconds: float, now: float, step: float, burst: float) -> None:
        """Fill it by what leaks in so many seconds, if it holds as much."""
        self._empty_at = now + min(self.seconds_until_empty(now, step, burst) + seconds, burst * step)

    def level(self, now: float, step: float, burst: float) -> float:
        """Return the part of the burst that is left, above 0: 1 after a request that was the only one."""
        return min(1.0, max(1.0, burst + 1 - self.seconds_until_empty(now, step, burst) / step) / burst)

    def seconds_until_empty(self, now: float, step: float, burst: float) -> float:
        """Return the seconds until it is empty: no more than it holds, also if the clock went back."""
        self._empty_at = min(self._empty_at, now + burst * step)
        return max(0.0, self._empty_at - now)


class Budget:
    """The requests a minute for one project and region.

    All members have equal shares, so that none waits for the many requests of another. An unused share is given to
    nobody: the quota is for other clients of the API too.

    :param bucket: of the requests that were sent by all of them
    """

    def __init__(self, bucket: Bucket | None = None) -> None:
        self.per_minute = REQUESTS_PER_MINUTE
        self._members: Counter[Hashable] = Counter()
        self._bucket = bucket or Bucket()
        self._buckets: dict[Hashable, Bucket] = {}  # of each member

    def join(self, member: Hashable) -> None:
        """Take part; several who join as the same member have one share."""
        self._members[member] += 1
        self._buckets.setdefault(member, Bucket())

    def leave(self, member: Hashable) -> None:
        """Take part no longer."""
        self._members[member] -= 1
        if self._members[member] <= 0:
            del self._members[member]
            self._buckets.pop(member, None)

    @contextmanager
    def joined(self, member: Hashable) -> Iterator[None]:
        """Take part for a time; see `join`."""
        self.join(member)
        try:
            yield
        finally:
            self.leave(member)

    def seconds_for(self, member: Hashable, requests: int) -> float:
        """Return the seconds that requests of a member take up."""
        return requests * 60 * max(1, len(self._members)) * max(1, self._members[member]) / self.per_minute

    def requests_in(self, member: Hashable, seconds: float) -> int:
        """Return how many requests a member may send in a time."""
        return int(seconds / self.seconds_for(member, 1))

    # --- turns ---

    @property
    def step(self) -> float:
        """Return the seconds in which the budget grants a member one request, apart from bursts."""
        return self._step * max(1, len(self._members))

    def level(self, member: Hashable, now: float) -> float:
        """Return the part of its burst that a member has left, above 0.

        :param now: the monotonic time, in seconds, as in the methods below
        """
        own = self._buckets.get(member, self._bucket)
        return min(own.level(now, self.step, self._own_burst), self._bucket.level(now, self._step, self._burst))

    def requests_at_once(self, member: Hashable, now: float) -> int:
        """Return how many requests a member may send at once."""
        return int(self.level(member, now) * self._own_burst)

    def seconds_until_turn(self, member: Hashable, now: float) -> float:
        """Return the seconds until a member may send a request, 0 if it may."""
        wait = self._bucket.seconds_until_turn(now, self._step, self._burst)
        if own := self._buckets.get(member):
            wait = max(wait, own.seconds_until_turn(now, self.step, self._own_burst))
        return wait

    def take(self, member: Hashable, now: float) -> None:
        """Note that a member sends a request."""
        self._bucket.fill(self._step, now, self._step, self._burst)
        if own := self._buckets.get(member):
            own.fill(self.step, now, self.step, self._own_burst)

    def take_all_of(self, other: Budget, now: float) -> None:
        """Note the requests of another budget, which turns out to be of the same project."""
        if other is not self:
            sent = other._bucket.seconds_until_empty(now, other._step, other._burst)
            self._bucket.fill(sent, now, self._step, self._burst)

    async def turn(self, member: Hashable, before_wait: Callable[[float], None] = lambda _: None) -> None:
        """Wait until a member may send a request, and note that it does.

        :param before_wait: called with the seconds that are to be waited for
        """
        while wait := self.seconds_until_turn(member, time.monotonic()):
            before_wait(wait)
            await asyncio.sleep(wait)
        self.take(member, time.monotonic())

    @property
    def _burst(self) -> float:
        return max(1, int(BURST_PART * self.per_minute))

    @property
    def _step(self) -> float:
        # In 60 s there are fewer whole steps than this divisor says. With the burst they make a minute's requests.
        return WINDOW_SECONDS / (self.per_minute - self._burst + 1)

    @property
    def _own_burst(self) -> float:
        return max(1, self._burst // max(1, len(self._members)))


# A budget lives as long as a member refers to it; the count of the requests that were sent outlives it.
_budgets: WeakValueDictionary[tuple[str, str], Budget] = WeakValueDictionary()
_sent: dict[tuple[str, str], Bucket] = {}


def budget_of(project: str, region: str) -> Budget:
    """Return the budget that all who poll the jobs of a project in a region share, as it is configured now.

    :param project: its number, if that is known, else its id
    """
    place = (project, region)
    budget = _budgets.setdefault(place, Budget(_sent.setdefault(place, Bucket())))
    budget.per_minute = whole_number("max_requests_per_minute", default=REQUESTS_PER_MINUTE, least=1)
    return budget


# The name that the API gives a project, its number, by the connection and the name that it was asked for.
_projects: dict[Hashable, dict[str, str]] = {}


def known_project(connection: Hashable, project: str) -> str:
    """Return the number of a project that is given by its id, if an answer of the API has named it; else `project`.

    :param connection: see `Connection`; through another one an id may be another project's
    """
    return _projects.get(connection, {}).get(project, project)


def learn_project(connection: Hashable, asked: str, project: str) -> None:
    """Note the name that the API gave a project which was asked for by another; see `known_project`."""
    _projects.setdefault(connection, {})[asked] = project


def budget_for(connection: Hashable, project: str, region: str) -> Budget:
    """Return the budget of a project, given by its id or its number, in a region; see `known_project`."""
    return budget_of(known_project(connection, project), region)
