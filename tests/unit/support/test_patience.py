"""Waits poll, and their bounds scale."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.support import patience
from tests.support.patience import patient, wait_until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace time by a clock that sleeping moves; its readings at each sleep."""
    readings = [0.0]

    def sleep(seconds: float) -> None:
        readings.append(readings[-1] + seconds)

    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: readings[-1], sleep=sleep))
    return readings


def test_it_returns_what_came_and_waits_no_longer(clock):
    assert wait_until(lambda: len(clock) == 3 and "came", timeout=1, what="it", interval=0.25) == "came"
    assert clock == [0, 0.25, 0.5]


def test_it_gives_up_after_the_scaled_bound_and_says_what_for(clock, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 3.0)
    with pytest.raises(AssertionError, match=r"^not within 6 s: the end$"):
        wait_until(lambda: False, timeout=2, what="the end", interval=1)
    assert clock[-1] == 6


def test_bounds_scale(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 2.5)
    assert patient(10) == 25
