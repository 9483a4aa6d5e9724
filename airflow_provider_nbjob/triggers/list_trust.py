"""Decide whether jobs are listed, or read one by one because listing them fails."""

from __future__ import annotations

import logging

from airflow_provider_nbjob.exceptions import ApiError
from airflow_provider_nbjob.outages import is_about_all
from airflow_provider_nbjob.triggers.sweeps import SweepPlan

log = logging.getLogger(__name__)

LIST_AGAIN_SECONDS = 60.0  # after which listing is tried again that was refused; doubled each time, up to ...
LIST_TRUST_SECONDS = 3600.0  # ... that after which listing is tried again that had not shown what there was
LIST_FAILURES_MAX = 3  # listings that fail one after the other by a fault; then jobs are read one by one
LIST_FAULTS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})  # of the API, that may be the listing's alone


class ListTrust:
    """Has a `SweepPlan` list, or not. `now` is the monotonic time, in seconds."""

    def __init__(self) -> None:
        self._again_at: float | None = None  # None while jobs are listed
        self._failures = 0
        self._refusals = 0

    def answered(self) -> None:
        """Note that a listing was answered."""
        self._failures = self._refusals = 0

    def failed(self, plan: SweepPlan, error: Exception, now: float) -> bool:
        """Note that a listing failed; return whether it was refused."""
        self._failures += 1
        is_refused = not is_about_all(error)
        is_faulty = not isinstance(error, ApiError) or error.code in LIST_FAULTS
        if is_refused or (is_faulty and self._failures >= LIST_FAILURES_MAX):
            log.warning("Jobs are read one by one, as listing them failed: %s", error)
            pause = min(LIST_TRUST_SECONDS, LIST_AGAIN_SECONDS * 2.0 ** min(self._refusals, 10))
            plan.lists, self._again_at = False, now + pause
            self._refusals += 1
        return is_refused

    def renew(self, plan: SweepPlan, now: float) -> None:
        """Have jobs listed again, some time after that failed, or did not show what there was."""
        if plan.lists:
            self._again_at = None
        elif self._again_at is None:
            self._again_at = now + LIST_TRUST_SECONDS
        elif now >= self._again_at:
            plan.lists, self._again_at = True, None
