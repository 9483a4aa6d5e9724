"""Measure the watches of a triggerer: how many tasks wait, and how long a poll takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_nbjob import metrics

_waiting: Counter[str] = Counter()  # tasks by region, over all watches of this process
_answered: set[str] = set()  # regions of the API: a DAG may name others, of any number


def waiting(region: str, change: int) -> None:
    """Count a task that begins to wait (1), or waits no more (-1)."""
    _waiting[region] += change
    if not _waiting[region]:  # no poll would tell it
        _tell(region)


@contextmanager
def polling(region: str) -> Iterator[None]:
    """Measure a poll that is answered, and tell how many tasks wait."""
    began = time.monotonic()
    _tell(region)
    yield
    if region not in _answered:
        _answered.add(region)
        _tell(region)
    metrics.send_soon(metrics.POLL_DURATION, 1000 * (time.monotonic() - began), location=region)


def _tell(region: str) -> None:
    if region in _answered:
        metrics.send_soon(metrics.JOBS_WAITING, _waiting[region], location=region)
