"""Decide whether jobs are listed, or read one by one because listing them fails."""

from __future__ import annotations

import logging
import math

from airflow_provider_nbjob.outages import is_about_all, is_of_one
from airflow_provider_nbjob.triggers.sweeps import SweepPlan

log = logging.getLogger(__name__)

LIST_AGAIN_SECONDS = 60.0  # after which listing is tried again that was refused; doubled each time, up to ...
FAULT_SECONDS = 10.0  # likewise, if it failed by a fault
LIST_TRUST_SECONDS = 3600.0  # ... that after which listing is tried again that had not shown what there was
LIST_FAILURES_MAX = 3  # listings that fail one after the other by a fault; then jobs are read one by one


class ListTrust:
    """Has a `SweepPlan` list, or not. `now` is the monotonic time, in seconds."""

    def __init__(self) -> None:
        self._again_at: float | None = None  # None while jobs are listed
        self._failures = 0
        self._refusals = 0
        self._is_fault = False  # whether it failed last by what may be no fault of the listing's alone

    def answered(self) -> None:
        """Note that a listing was answered."""
        self._failures = self._refusals = 0

    def failed(self, plan: SweepPlan, error: Exception, now: float) -> bool:
        """Note that a listing failed; return whether it was refused."""
        self._failures += 1
        is_refused = not is_about_all(error)
        if is_refused or (is_of_one(error) and self._failures >= LIST_FAILURES_MAX):
            if is_refused or self._failures == LIST_FAILURES_MAX:
                log.warning("Jobs are read one by one, as listing them failed: %s", error)
            first = LIST_AGAIN_SECONDS if is_refused else FAULT_SECONDS
            pause = min(LIST_TRUST_SECONDS, first * 2.0 ** min(self._refusals, 10))
            plan.lists, self._again_at, self._is_fault = False, now + pause, not is_refused
            self._refusals += 1
        return is_refused

    def read_failed(self, plan: SweepPlan, error: Exception) -> bool:
        """Note that a read failed by what may be about all; return whether it is: else a listing was just answered.

        If listing failed by a fault before, the fault is not the listing's alone, and jobs are listed again.
        """
        if self._is_fault and self._again_at is not None:
            self._again_at, self._refusals, self._is_fault = -math.inf, self._refusals - 1, False
        return plan.reads or not is_of_one(error)

    def renew(self, plan: SweepPlan, now: float) -> None:
        """Have jobs listed again, some time after that failed, or did not show what there was."""
        if plan.lists:
            self._again_at = None
        elif self._again_at is None:
            self._again_at = now + LIST_TRUST_SECONDS
        elif now >= self._again_at:
            plan.lists, self._again_at = True, None
