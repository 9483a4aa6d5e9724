"""Share the requests of a minute among all who poll the jobs of one project and region.

The API's quota is by project and region, whichever connection asks. The budget is one triggerer process's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from airflow.providers.common.compat.sdk import conf

log = logging.getLogger(__name__)

REQUESTS_PER_MINUTE = 60  # of `[nbjob] max_requests_per_minute`; get_provider_info.py repeats it


def requests_per_minute() -> int:
    """Return `[nbjob] max_requests_per_minute`; a value that is no whole number above 0 is an error in the log."""
    try:
        configured = conf.getint("nbjob", "max_requests_per_minute", fallback=REQUESTS_PER_MINUTE)
        if configured is not None and configured > 0:
            return int(configured)
        problem = f"{configured} is not above 0"
    except Exception as error:  # a text, a variable of Airflow's that cannot be expanded, a command that fails
        problem = str(error)
    log.error("[nbjob] max_requests_per_minute is not valid, so it is %s: %s", REQUESTS_PER_MINUTE, problem)
    return REQUESTS_PER_MINUTE


class Budget:
    """The requests a minute for one project and region.

    All members have equal shares, so that none waits for the many requests of another. An unused share is given to
    nobody: the quota is for other clients of the API too.
    """

    def __init__(self) -> None:
        self.per_minute = REQUESTS_PER_MINUTE
        self._members: Counter[Hashable] = Counter()

    def join(self, member: Hashable) -> None:
        """Take part; several who join as the same member have one share."""
        self._members[member] += 1

    def leave(self, member: Hashable) -> None:
        """Take part no longer."""
        self._members[member] -= 1
        if self._members[member] <= 0:
            del self._members[member]

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


# A budget lives as long as a member refers to it.
_budgets: WeakValueDictionary[tuple[str, str], Budget] = WeakValueDictionary()


def budget_of(project: str, region: str) -> Budget:
    """Return the budget that all who poll the jobs of a project in a region share, as it is configured now.

    :param project: its number, if that is known, else its id
    """
    budget = _budgets.setdefault((project, region), Budget())
    budget.per_minute = requests_per_minute()
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
