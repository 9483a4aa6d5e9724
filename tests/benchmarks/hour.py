"""An hour of a location at virtual time: how soon ends are seen, beside looks that are a fixed time apart.

The watch is the real one, as in `tests/unit/triggers/test_watch_pace.py`; only its requests are answered by a list.
"""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

from airflow_provider_nbjob.triggers.pace import Pace
from tests.support.simulated_location import Earlier, Run, Seen, most_in_a_minute, simulate

SECONDS = 3600
BEGINS = (100, 1900)  # of the groups
SETTLED = 100  # seconds until all that wait from the beginning have been met
MAPPED = 60
LETTERS = "abcdefgh"


def fixed(gap: float) -> Any:
    """Have looks a fixed time apart, as cheap as those of the pace, until the patch ends."""
    return mock.patch.object(Pace, "_gap", return_value=gap)


def workload(waiting: int, *, is_known: bool = True) -> tuple[list[Run], list[Earlier]]:
    """Return jobs that run for hours and twice in the hour 60 mapped tasks of ten minutes, and what ran before.

    :param waiting: number of the jobs, at most
    :param is_known: whether the mapped tasks are of one DAG, which ran before; else nothing says that they are alike
    """
    chance = random.Random(7)

    def name(group: int, n: int) -> str:
        return f"dag.task [{n}] run{group}" if is_known else f"{LETTERS[n % 8]}{LETTERS[n // 8]}{LETTERS[group]}"

    earlier = [Earlier(f"dag.task [{n}] earlier", chance.gauss(600, 30), 3600 + n) for n in range(MAPPED)]
    runs = [
        Run(f"long{n}", f"dag.long r{n}", 0, 10 * SECONDS, age=chance.uniform(0, 3000)) for n in range(waiting - MAPPED)
    ]
    runs += [
        Run(f"{begin}-{n}", name(group, n), begin, begin + chance.gauss(600, 30))
        for group, begin in enumerate(BEGINS)
        for n in range(MAPPED)
    ]
    return runs, earlier


def compare(waiting: int, *, is_known: bool = True, seed: int = 1) -> dict[str, Seen]:
    """Simulate the hour with our pace, with a fixed one for as many calls, and with one look in 10 s.

    :param seed: of the pauses that are random
    """
    runs, earlier = workload(waiting, is_known=is_known)
    ours = simulate(runs, SECONDS, earlier=earlier, seed=seed)
    gap, calls = 70 / calls_per_minute(ours), 0.0
    while calls < calls_per_minute(ours):  # down to the longest gap that makes as many
        gap *= 0.98 * min(1.0, calls / calls_per_minute(ours) or 1.0)
        with fixed(gap):
            as_many_calls = simulate(runs, SECONDS, earlier=earlier, seed=seed)
        calls = calls_per_minute(as_many_calls)
    with fixed(10):
        ten_seconds = simulate(runs, SECONDS, earlier=earlier, seed=seed)
    return {"ours": ours, f"fixed: {gap:.1f} s, as many calls": as_many_calls, "fixed: 10 s": ten_seconds}


def calls_per_minute(seen: Seen) -> float:
    """Return the mean number of calls a minute, once all have been met."""
    return seen.calls_per_minute(SETTLED, SECONDS)


def rows(waiting: int = 1000) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    return [
        {
            "kind": kind,
            "waiting": waiting,
            "calls_per_minute": calls_per_minute(seen),
            "calls_at_rest": seen.calls_per_minute(1600, 1900),
            "most": most_in_a_minute(seen.requests),
            "ended": len(seen.delays),
            **{f"detection_p{part:.0f}_s": seen.delay(part / 100) for part in (50, 95)},
            "detection_max_s": seen.delay(1),
        }
        for kind, seen in compare(waiting).items()
    ]
