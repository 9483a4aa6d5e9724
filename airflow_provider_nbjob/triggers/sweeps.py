"""Decide which request a watch sends next, and read the answers, without I/O, clock or threads.

A sweep lists the jobs of a location, newest change first, and stops at the changes that the sweep before it saw: it
costs what changed, not what exists. Jobs that such a listing cannot be relied on to show are looked for by the way.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from airflow_provider_nbjob.job import JobState, state_of

FEW = 5  # so many jobs are read one by one: a listing would carry a hundred to show five
# Seconds, by the server's clock, in which changes may become visible out of order.
OVERLAP = 30.0
AUDIT_EVERY = 2  # sweeps; in each of these one request goes to jobs that have long not been heard of
ATTEMPTS_MAX = 3  # sweeps that may be given up at the same work: after a page of changes, or at a page of a search
FRUITLESS_PART = 0.05  # of the jobs that a search looks for: so many pages in a row may show none of them


class Seen(NamedTuple):
    """A job as the API shows it: its id, its state, and when it changed, in POSIX seconds of the server's clock.

    `job` is the API's plain message of a job that has ended, else None.
    """

    job_id: str
    state: JobState
    update_time: float
    job: Any = None

    @classmethod
    def of(cls, message: Any, now: float) -> Seen:
        """Return what a plain message of the API shows of a job.

        :param now: POSIX seconds, for a message without the time of its change
        """
        state, changed = state_of(message), message.update_time
        at = changed.seconds + changed.nanos / 1e9 if message.HasField("update_time") else now
        return cls(message.name.rpartition("/")[2], state, at, message if state.is_terminal else None)


class Page(NamedTuple):
    """A page of a listing, and the token of the next one; empty on the last."""

    jobs: list[Seen]
    next_page_token: str


class ListPage(NamedTuple):
    """Ask for a page of the jobs of the location, newest change first. The answer is a `Page`."""

    page_token: str


class Read(NamedTuple):
    """Ask for one job. The answer is `Seen`, `None` if there is no such job, or `UNANSWERED`."""

    job_id: str


class Unanswered(Enum):
    """No answer, for this job alone: it is read again by the next sweep."""

    UNANSWERED = "unanswered"


UNANSWERED = Unanswered.UNANSWERED


class Change(NamedTuple):
    """A watched job has a new state; if nothing is seen of it, it is gone."""

    job_id: str
    seen: Seen | None


T = TypeVar("T")
Answer: TypeAlias = Page | Seen | Unanswered | None
# Yields requests, is sent their answers, and returns something.
_Asking: TypeAlias = "Generator[ListPage | Read, Answer, T]"


def next_request(sweep: _Asking[None], answer: Answer) -> ListPage | Read | None:
    """Give a sweep its answer, `None` at its beginning; what it asks next, `None` if it is over."""
    try:
        return sweep.send(answer)
    except StopIteration:
        return None


@dataclass
class _Search:
    """Pages through all jobs for some of them, for as long as that finds more than reading them would.

    :param wanted: the ids of those that were not met yet
    :param fruitless: pages in a row that showed none of them
    :param attempts: to ask for the next page
    """

    wanted: dict[str, None]
    page_token: str = ""
    is_over: bool = False
    fruitless: int = 0
    attempts: int = 0

    def begin_page(self) -> str:
        """Return the token of the page to ask for. A page that is not answered in several sweeps is the last one."""
        self.attempts += 1
        self.is_over = self.attempts >= ATTEMPTS_MAX
        return self.page_token

    def take(self, page: Page) -> None:
        met = [job.job_id for job in page.jobs if job.job_id in self.wanted]
        for job_id in met:
            del self.wanted[job_id]
        self.page_token, self.attempts = page.next_page_token, 0
        self.fruitless = 0 if met else self.fruitless + 1
        is_fruitless = self.fruitless > FRUITLESS_PART * len(self.wanted)
        self.is_over = is_fruitless or not (self.wanted and self.page_token)


@dataclass
class SweepPlan:
    """The jobs that are watched, and what is known of them.

    A sweep is a generator: it yields requests (`ListPage`, `Read`) and is sent their answers. What it learned is in
    `changes`, to be drained by its caller.
    """

    changes: list[Change] = field(default_factory=list)
    lists: bool = True  # whether listings are granted, and can be trusted
    few: int = FEW  # so many jobs are read one by one
    is_behind: bool = False  # whether the last sweep had too few requests for all newcomers
    _jobs: dict[str, Seen | None] = field(default_factory=dict)  # `None` before a job was seen
    _newcomers: dict[str, None] = field(default_factory=dict)
    _unlisted: set[str] = field(default_factory=set)  # newcomers that a search has not found, and that are to be read
    _search: _Search | None = None  # for newcomers
    _audit: _Search | None = None
    _to_audit: list[str] = field(default_factory=list)
    _watermark: float | None = None  # the newest change seen
    _recent: dict[str, float] = field(default_factory=dict)  # what was seen of the time that sweeps overlap in
    _sweeps: int = 0
    _attempts: int = 0  # to list what changed

    def __len__(self) -> int:
        return len(self._jobs)

    def last_seen(self, job_id: str) -> Seen | None:
        """Return what was seen last of a watched job, `None` before the first."""
        return self._jobs.get(job_id)

    def add(self, job_id: str) -> None:
        """Watch a job."""
        if job_id not in self._jobs:
            self._jobs[job_id] = None
            self._newcomers[job_id] = None

    def remove(self, job_id: str) -> None:
        """Watch a job no longer."""
        self._jobs.pop(job_id, None)
        self._meet(job_id)

    @property
    def reads(self) -> bool:
        """Return whether a sweep reads the jobs one by one."""
        return not self.lists or len(self) <= self.few

    def glance(self) -> _Asking[None]:
        """Look at the newest page of changes alone, for one request.

        What the page does not show is left to the next sweep, which goes by what the sweep before it saw.
        """
        yield from self._list("")

    def sweep(self, most: int, spare: int | None = None) -> _Asking[None]:
        """Find out what changed.

        A sweep that is given up half-way loses nothing: the next one starts from what the last whole one saw.

        :param most: number of requests that a sweep may take, beside one for newcomers
        :param spare: number of requests for newcomers and for an audit, default `most`
        """
        self._sweeps += 1
        if self.reads:
            self._watermark, self.is_behind = None, False
            yield from self._read_in_turn(most)
            return
        if self._watermark is None:
            self._look_for_all_but({})
        # One at least for newcomers, also if others change more jobs than a sweep can list.
        left = max(1, most - (yield from self._list_changes(most)))
        left = left if spare is None else min(left, spare)
        left -= yield from self._meet_newcomers(left)
        self.is_behind = left <= 0 and bool(self._newcomers)
        if left > 0 and self.lists and self._sweeps % AUDIT_EVERY == 0:
            yield from self._audit_some()

    # --- the parts of a sweep; each returns the number of its requests ---

    def _list_changes(self, most: int) -> _Asking[int]:
        horizon = None if self._watermark is None else self._watermark - OVERLAP
        token, pages, met = "", 0, dict[str, float]()
        self._attempts += 1
        while True:
            page = yield from self._list(token)
            pages += 1
            times = [job.update_time for job in page.jobs]
            if times != sorted(times, reverse=True):
                self.lists = False  # `order_by` has no effect
                return pages
            met.update((job.job_id, job.update_time) for job in page.jobs)
            token = page.next_page_token
            is_known = all(self._recent.get(job.job_id) == job.update_time for job in page.jobs)
            # A page may be empty and not the last one.
            if not token or horizon is None or (times and (is_known or times[-1] < horizon)):
                break
            if pages == most or self._attempts > ATTEMPTS_MAX:  # too much has changed for a listing to show it
                self._look_for_all_but(met)
                break
        self._attempts = 0
        newest = max([*met.values(), self._watermark or 0.0])
        self._watermark = newest
        self._recent = {i: time for i, time in {**self._recent, **met}.items() if time >= newest - OVERLAP}
        unsearched = [job_id for job_id in self._newcomers if job_id not in self._unlisted]
        if unsearched and self._search is None:
            # A page costs what it costs to read one.
            self._search = _Search(dict.fromkeys(unsearched), token, is_over=not token or len(unsearched) == 1)
        return pages

    def _meet_newcomers(self, most: int) -> _Asking[int]:
        """Find the jobs that were never seen: by further pages while these show some, then one by one."""
        used = 0
        while self._search and self._newcomers and used < most:
            if self._search.is_over:
                self._unlisted.update(job_id for job_id in self._search.wanted if job_id in self._newcomers)
                self._search = None
                break
            page = yield from self._list(self._search.begin_page())
            used += 1
            self._search.take(page)
            self._recent.update((job.job_id, job.update_time) for job in page.jobs)
        if not self._newcomers:
            self._search = None
        if self._search is None:
            used += yield from self._read(list(self._newcomers)[: max(0, most - used)])
        return used

    def _audit_some(self) -> _Asking[int]:
        """One request for jobs that listings of changes have not shown for long: lost, or lied about."""
        while self._to_audit:
            job_id = self._to_audit.pop()
            if job_id in self._jobs:
                before = self._jobs[job_id]
                seen = yield from self._read_one(job_id)
                was_missed = seen and before and seen.state != before.state
                if seen and was_missed and seen.update_time < (self._watermark or 0.0) - OVERLAP:
                    self.lists = False  # it changed long ago, and the listing did not show it
                return 1
        if self._audit is None:
            self._audit = _Search(dict.fromkeys(self._jobs))
        audit = self._audit
        if not audit.is_over:
            audit.take((yield from self._list(audit.begin_page())))
        if audit.is_over:
            self._to_audit, self._audit = list(audit.wanted), None
        return 1

    def _read(self, job_ids: Iterable[str]) -> _Asking[int]:
        used = 0
        for job_id in job_ids:
            if job_id in self._jobs:  # it may have left meanwhile
                if job_id in self._newcomers:  # to the end: one that is not answered does not keep others waiting
                    self._newcomers[job_id] = self._newcomers.pop(job_id)
                yield from self._read_one(job_id)
                used += 1
        return used

    def _list(self, page_token: str) -> _Asking[Page]:
        page = cast(Page, (yield ListPage(page_token)))
        self._take(page.jobs)
        return page

    def _read_one(self, job_id: str) -> _Asking[Seen | None]:
        seen = cast("Seen | Unanswered | None", (yield Read(job_id)))
        if isinstance(seen, Unanswered):
            if job_id in self._jobs:
                self._newcomers[job_id] = None
            return None
        if seen is None:
            self.changes.append(Change(job_id, None))
            self.remove(job_id)
        else:
            self._take([seen])
        return seen

    def _read_in_turn(self, most: int) -> _Asking[None]:
        """Read those that were not read for the longest; one that cannot be read does not keep others from it."""
        for job_id in list(self._jobs)[:most]:
            if job_id in self._jobs:
                self._jobs[job_id] = self._jobs.pop(job_id)  # to the end
                yield from self._read_one(job_id)

    def _take(self, jobs: Iterable[Seen]) -> None:
        for seen in jobs:
            if seen.job_id not in self._jobs:
                continue
            known = self._jobs[seen.job_id]
            if known and seen.update_time < known.update_time and not seen.state.is_terminal:
                continue  # a listing that lags behind what a read showed; an end is no step back, at any time
            self._meet(seen.job_id)
            self._jobs[seen.job_id] = seen
            if known is None or known.state != seen.state:
                self.changes.append(Change(seen.job_id, seen))

    def _look_for_all_but(self, met: Container[str]) -> None:
        self._newcomers = {job_id: None for job_id in self._jobs if job_id not in met}
        self._unlisted.clear()

    def _meet(self, job_id: str) -> None:
        self._newcomers.pop(job_id, None)
        self._unlisted.discard(job_id)
