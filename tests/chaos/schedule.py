"""What happens in a run, tick by tick. It is a pure function of the seed, so that a run can be repeated.

A tick lasts at least a second, and until the triggerer's runner has spoken to its supervisor again. So the schedule
stretches on a busy machine, and whatever it says of ticks holds there too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import grpc

LOCATIONS = ("us-central1", "europe-west4", "asia-east1")
KEY, PLAIN = "chaos_key", "chaos_plain"  # connections: TLS with a service account's key, and plaintext
CONNECTIONS = (KEY, PLAIN)
TASKS = 200
STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")

CODES = tuple(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
# What an API in trouble goes on answering. NOT_FOUND comes one by one, and never twice running to who asks the same
# question: an API that says it twice is right.
LASTING = tuple(code for code in CODES if code != "NOT_FOUND")
LOOKS = ("Get", "List")
METHODS = (*LOOKS, "Create")
SLOW, HANG = "slow", "hang"
SLOW_SECONDS = 4.0
LOST = "lost"  # what was asked for is done, and the answer does not arrive
# What a look-up of a connection may do: raise in the secrets backend, find nothing, take long, or not return.
RAISES, UNDEFINED, HANGS = "raises", "undefined", "hangs"
CLOCK_STEP = 600.0  # seconds
FAR = 7200.0  # seconds to a deadline that no run reaches, whatever the clock does

RESULTS = {"result": 42}  # that the notebooks of these tasks hand out
# A job that ended so is taken for one that somebody stopped, and submitted anew under another id, by a process of its
# try that does not know of it yet. So it ends so once Airflow has the record of it, which it takes at once.
NEED_RECORD = (None, "CANCELLED")
DAG_PREFIX = "start-"  # before the trigger's id
# Of these kinds of tasks, see `_tasks`, some start in the triggerer.
STARTING = ("plain", "killed", "timeout", "lost")
STARTING_PART = 0.4

FIRST = 10  # ticks in which most tasks begin to wait
TAIL = 5  # ticks after the last fault in which jobs still end

# The trigger's argument as it may come from a DAG, from the database, or from another version of the provider.
BAD_INTERVALS: tuple[Any, ...] = (
    *("10", "soon", "", None, True, [], {}),
    *(0, -1, math.nan, math.inf, -math.inf, 1e99, 10**400),
    *(timedelta(seconds=2), timedelta(0), timedelta(days=-1)),
)
BAD_END_TIMES: tuple[Any, ...] = ("tomorrow", "", math.nan, math.inf, [], {})
# What Airflow says of a task whose trigger it takes away for good; "other" waits for another job already.
ENDS_OF_TASKS = ("failed", "success", "skipped", "restarting", "removed", "other")
# What is answered to the first requests that are to stop a job; the later ones are performed. After "lost" the request
# was performed and its answer did not arrive.
STOP_FAULTS = ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", LOST)
# What is answered to the first creates of a task that starts in the triggerer: some are refused for good, some are
# performed, and answered late or never.
CREATE_FAULTS = (*STOP_FAULTS, LOST, LOST, SLOW, SLOW, HANG, HANG, "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNKNOWN")
# What Airflow answers to the first requests that are to keep, or to read, the record of such a task's job.
BROKEN, SILENT = "broken", "silent"
RECORD_FAULTS = (BROKEN, SILENT, LOST)

Outcome: TypeAlias = Literal["finished", "lost", "timeout", "stopped"]


@dataclass(frozen=True)
class Start:
    """How the start of a task in the triggerer fares.

    :param create_faults: answered to the first creates of its job
    :param record_faults: answered to the first requests that are to keep the record of its job
    :param read_faults: answered to the first requests that are to read it
    :param is_taken_away: whether its trigger is taken away once its job is there, and before that is on record
    """

    create_faults: tuple[str, ...] = ()
    record_faults: tuple[str, ...] = ()
    read_faults: tuple[str, ...] = ()
    is_taken_away: bool = False


@dataclass(frozen=True)
class Task:
    """A deferred task, its job, and what becomes of both. Times are ticks if nothing else is said.

    :param id: of its trigger
    :param starts: when its trigger starts
    :param ends: when its job ends by itself; None: never
    :param state: that the job ends in; None: a stranger deletes it
    :param deadline: seconds after the start; or what is no number, and given to the trigger as it is
    :param away: when the trigger is taken away, as at a reassignment, and when it is given back
    :param killed: when a person ends the task, so that its job is to be stopped
    :param killed_as: what Airflow says of the task then, one of `ENDS_OF_TASKS`
    :param is_silent: whether Airflow does not answer the first question after the task when its trigger was taken away
    :param stop_faults: answered to the first requests that are to stop the job
    :param start: of a task that starts in the triggerer, which submits the job; None: a worker has submitted it. Such a
        job has another id than `job_id`, which only names it here
    """

    id: int
    job_id: str
    location: str
    connection: str
    starts: int
    ends: int | None
    state: str | None
    interval: Any = 1.0
    deadline: Any = None
    away: tuple[tuple[int, int], ...] = ()
    killed: int | None = None
    killed_as: str = ""
    is_silent: bool = False
    stop_faults: tuple[str, ...] = ()
    start: Start | None = None

    @property
    def dag_id(self) -> str:
        """The DAG of one that starts in the triggerer."""
        return f"{DAG_PREFIX}{self.id}"

    @property
    def job(self) -> tuple[str, str]:
        """The location and the id of its job."""
        return self.location, self.job_id

    @property
    def outcome(self) -> Outcome:
        """What is to become of it."""
        if self.killed is not None:
            return "stopped"
        if self.ends is None:
            return "timeout"
        return "finished" if self.state else "lost"


@dataclass(frozen=True)
class ApiFault:
    """How the API answers a method in a location from one tick to another.

    :param method: "Get", "List", "" for these two, "Create", or "Store": of executed notebooks in Cloud Storage
    :param how: a code, `SLOW` or `HANG`
    """

    first: int
    last: int
    location: str
    method: str
    how: str


@dataclass(frozen=True)
class ConnectionFault:
    """What look-ups of a connection do from one tick to another."""

    first: int
    last: int
    connection: str
    how: str


@dataclass(frozen=True)
class Rotation:
    """At a tick the API refuses what a connection holds; `lag` ticks later the connection holds what it accepts."""

    at: int
    lag: int
    connection: str


@dataclass(frozen=True)
class Schedule:
    """One run.

    :param ticks: its length, without the tail
    :param once: for each tick the questions (location, method) that are answered with a code once, and that code
    :param clock: for each tick at which the triggerer's clock is set, how far off it is afterwards, in seconds
    """

    seed: str
    ticks: int
    tasks: tuple[Task, ...]
    api_faults: tuple[ApiFault, ...]
    once: tuple[tuple[int, str, str, str], ...]
    connection_faults: tuple[ConnectionFault, ...]
    rotations: tuple[Rotation, ...]
    clock: tuple[tuple[int, float], ...]

    def keys(self, tick: int) -> tuple[dict[str, int], dict[str, int]]:
        """Return the number of the key that each connection holds at a tick, and of the one that the API accepts."""
        held, accepted = dict.fromkeys(CONNECTIONS, 0), dict.fromkeys(CONNECTIONS, 0)
        for rotation in self.rotations:
            accepted[rotation.connection] += tick >= rotation.at
            held[rotation.connection] += tick >= rotation.at + rotation.lag
        return held, accepted

    def clock_offset(self, tick: int) -> float:
        """Return how far off the triggerer's clock is at a tick, in seconds."""
        return next((offset for at, offset in reversed(self.clock) if at <= tick), 0.0)

    def connection_fault(self, connection: str, tick: int) -> str:
        """Return what look-ups of a connection do at a tick; nothing if they succeed."""
        standing = (f for f in self.connection_faults if f.connection == connection and f.first <= tick < f.last)
        return next((fault.how for fault in standing), "")

    def api_fault(self, location: str, method: str, tick: int) -> str:
        """Return what is wrong with a method in a location at a tick; nothing if it works."""
        for fault in self.api_faults:
            is_of_it = fault.method == method or (not fault.method and method in LOOKS)
            if fault.location == location and is_of_it and fault.first <= tick < fault.last:
                return fault.how
        return ""


def make_schedule(seed: str, minutes: float, tasks: int = TASKS, *, starting: bool = True) -> Schedule:
    """Return the schedule of a seed.

    :param minutes: of ticks that last a second
    :param tasks: that wait
    :param starting: whether some of them start in the triggerer, as Airflow 3.3 is the first to have them
    """
    ticks = round(minutes * 60)
    dice = random.Random(f"{seed} {ticks} {tasks}")
    connection_faults = tuple(_connection_faults(dice, ticks))
    return Schedule(
        seed=seed,
        ticks=ticks,
        tasks=tuple(_tasks(dice, ticks, tasks, connection_faults if starting else None)),
        api_faults=tuple(_api_faults(dice, ticks)),
        once=tuple(_once(dice, ticks)),
        connection_faults=connection_faults,
        rotations=tuple(_rotations(dice, ticks)),
        clock=tuple(_clock(dice, ticks)),
    )


def _tasks(dice: random.Random, ticks: int, number: int, faults: tuple[ConnectionFault, ...] | None) -> Iterator[Task]:
    """Return tasks: an eighth are ended by a person, some jobs end otherwise than by themselves, the others' end.

    :param faults: of their connections; None: no task starts in the triggerer, as about a third of them do
    """
    of = {"killed": number // 8, "timeout": number // 25, "lost": number // 25, "twin": number // 20}
    middle = (FIRST + 3, max(FIRST + 4, ticks))
    names = [name for name, count in of.items() for _ in range(count)]
    names += ["bad interval"] * len(BAD_INTERVALS) + ["bad end time"] * len(BAD_END_TIMES)
    names += ["plain"] * (number - len(names))
    dice.shuffle(names)
    bad_intervals, bad_end_times = iter(BAD_INTERVALS), iter(BAD_END_TIMES)
    finished: list[Task] = []
    for identity, name in enumerate(names, start=1):
        ends = dice.randint(FIRST + 3, ticks + TAIL)
        given: dict[str, Any] = {
            "id": identity,
            "job_id": f"job-{identity}",
            "location": dice.choice(LOCATIONS),
            "connection": dice.choice(CONNECTIONS),
            "starts": dice.randint(0, FIRST) if dice.random() < 0.8 else dice.randint(0, ticks * 2 // 3),
            "ends": ends,
            "state": dice.choice(STATES),
            "deadline": dice.choice((None, FAR)),
            "is_silent": dice.random() < 0.3,
        }
        if name == "killed":
            given |= {
                "starts": min(given["starts"], FIRST),
                "ends": None,
                "deadline": None,
                "killed": dice.randint(*middle),
                "killed_as": dice.choice(ENDS_OF_TASKS),
                "stop_faults": tuple(dice.choice(STOP_FAULTS) for _ in range(dice.choice((0, 0, 1, 2)))),
            }
        elif name == "timeout":  # also of triggers that start while the clock is wrong
            starts = dice.randint(0, ticks // 3)
            given |= {"starts": starts, "ends": None, "deadline": dice.uniform(0.3, 0.9) * ticks}
        elif name == "lost":
            given |= {"state": None}
        elif name == "bad interval":
            given |= {"interval": next(bad_intervals)}
        elif name == "bad end time":
            given |= {"deadline": next(bad_end_times)}
        elif name == "twin" and finished:
            other = dice.choice(finished)
            given |= {"job_id": other.job_id, "location": other.location, "ends": other.ends, "state": other.state}
        if name in ("plain", "lost", "timeout", "twin") and dice.random() < 0.4:
            given["away"] = tuple(_away(dice, given["starts"], ticks))
        if name in STARTING and dice.random() < STARTING_PART:
            changes = _start(dice, name, given, ticks, faults or ())
            given |= changes if faults is not None else {}
        task = Task(**given)
        if name == "plain" and not task.start:
            finished.append(task)
        yield task


def _start(
    dice: random.Random, name: str, given: dict[str, Any], ticks: int, faults: tuple[ConnectionFault, ...]
) -> dict[str, Any]:
    """Return what is different about a task that starts in the triggerer: most do so in the midst of chaos."""
    starts = dice.randint(0, ticks * 2 // 3) if name == "plain" else given["starts"]
    start = Start(
        create_faults=_some(dice, CREATE_FAULTS, (0, 0, 0, 1, 2)),
        record_faults=() if given["state"] in NEED_RECORD else _some(dice, RECORD_FAULTS, (0, 0, 1, 2)),
        read_faults=_some(dice, (BROKEN, SILENT), (0,) * 9 + (1,)),
        is_taken_away=name != "killed" and dice.random() < 0.3,
    )
    killed: dict[str, Any] = {}
    if name == "killed" and dice.random() < 0.6:  # while it submits the job, or looks for the one that there is
        soon = starts + dice.randint(1, 6)
        back = soon + dice.randint(3, 6)
        handed_over = {"away": ((soon, back),), "killed": back + dice.randint(1, 3)}
        killed = handed_over if dice.random() < 0.5 else {"killed": soon}
    away = {"away": tuple(_away(dice, starts, ticks))} if given.get("away") else {}
    # Without its connection a trigger leaves the start to a worker, and no other fault meets it.
    failing = {fault.connection for fault in faults if fault.first <= starts + 1 < fault.last}
    usable = [connection for connection in CONNECTIONS if connection not in failing]
    connection = dice.choice(usable) if usable and dice.random() < 0.8 else given["connection"]
    return {"start": start, "starts": starts, "connection": connection, **killed, **away}


def _some(dice: random.Random, faults: tuple[str, ...], numbers: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(dice.choice(faults) for _ in range(dice.choice(numbers)))


def _away(dice: random.Random, starts: int, ticks: int) -> Iterator[tuple[int, int]]:
    at = starts + 2
    for _ in range(dice.randint(1, 3)):
        gone = at + dice.randint(1, max(1, ticks // 4))
        back = gone + dice.randint(3, 15)
        if back >= ticks:
            return
        yield gone, back
        at = back + 2


def _api_faults(dice: random.Random, ticks: int) -> Iterator[ApiFault]:
    """In each location by turns: the API works, answers with a code, slowly, or not at all."""
    for location in LOCATIONS:
        tick = dice.randint(0, FIRST)
        while tick < ticks:
            how = dice.choice((*LASTING, SLOW, HANG))
            last = min(ticks, tick + dice.randint(3, 15))
            yield ApiFault(tick, last, location, dice.choice(("", "", *METHODS, "Create", "Store")), how)
            tick = last + dice.randint(3, 20)


def _once(dice: random.Random, ticks: int) -> Iterator[tuple[int, str, str, str]]:
    """Return all codes, again and again, in an order by chance."""
    tick = FIRST
    while tick < ticks:
        for code in dice.sample(CODES, len(CODES)):
            if tick >= ticks:
                return
            yield tick, dice.choice(LOCATIONS), dice.choice(METHODS), code
            tick += dice.randint(1, 3)


def _connection_faults(dice: random.Random, ticks: int) -> Iterator[ConnectionFault]:
    """One connection cannot be looked up when the first trigger starts, and each of them now and then."""
    first = dice.choice(CONNECTIONS)
    for connection in CONNECTIONS:
        tick = 0 if connection == first else dice.randint(FIRST, 2 * FIRST)
        while tick < ticks:
            is_long = dice.random() < 0.2
            last = min(ticks, tick + (dice.randint(20, 100) if is_long else dice.randint(5, 20)))
            yield ConnectionFault(tick, last, connection, dice.choice((RAISES, UNDEFINED, SLOW, HANGS)))
            tick = last + dice.randint(5, 30)


def _rotations(dice: random.Random, ticks: int) -> Iterator[Rotation]:
    for connection in CONNECTIONS:
        at = dice.randint(FIRST, 3 * FIRST)
        while at < ticks:
            lag = min(dice.choice((0, 0, dice.randint(1, 12))), ticks - at)
            yield Rotation(at, lag, connection)
            at += lag + dice.randint(30, 70)


def _clock(dice: random.Random, ticks: int) -> Iterator[tuple[int, float]]:
    tick, offset = FIRST + dice.randint(3, 10), 0.0
    while tick < ticks:
        offset = dice.choice([other for other in (0.0, CLOCK_STEP, -CLOCK_STEP) if other != offset])
        yield tick, offset
        tick += dice.randint(8, 25)
