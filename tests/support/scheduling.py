"""Spread tests over the processes of pytest-xdist: what shares something that is slow to start stays together."""

from __future__ import annotations

import zlib

from xdist.scheduler import LoadScopeScheduling

# The system tests of one name share an Airflow or a checkout; all others share what their module has.
SYSTEM = "tests/system/"
FAULTS = "tests/system/test_faults.py"
GROUPS = {
    "tests/system/test_chaos.py": "chaos",
    "tests/system/test_demo.py": "scripts",
    "tests/system/test_many_deferred.py": "scripts",
    "tests/system/test_ui_command.py": "scripts",
}
# What takes longest is begun first, so that no process works at its end while the others have nothing left.
FIRST = ("faults 0", "faults 1", "airflow", "scripts", "chaos", "tests/unit/triggers/test_watch_survives.py")


def group_of(test: str) -> str:
    """Return what a test, by its id, is kept together with."""
    module = test.partition("::")[0]
    if module == FAULTS:  # mostly waits, so two processes share it; each has an Airflow of its own
        return f"faults {zlib.crc32(test.encode()) % 2}"
    return GROUPS.get(module, "airflow" if module.startswith(SYSTEM) else module)


def rank_of(test: str) -> int:
    """Return the place of a test's group in the order in which groups are begun."""
    group = group_of(test)
    return FIRST.index(group) if group in FIRST else len(FIRST)


class ByWhatIsShared(LoadScopeScheduling):
    """Give each group of tests to one process.

    The marker of pytest-xdist 3.8 for this, ``xdist_group``, had no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
