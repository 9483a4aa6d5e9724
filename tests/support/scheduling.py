"""Spread tests over the processes of pytest-xdist: what shares something that is slow to start stays together."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# The system tests of one name share an Airflow or a checkout; all others share what their module has.
SYSTEM = "tests/system/"
GROUPS = {
    "tests/system/test_demo.py": "scripts",
    "tests/system/test_faults.py": "faults",
    "tests/system/test_many_deferred.py": "scripts",
    "tests/system/test_ui_command.py": "scripts",
}


def group_of(test: str) -> str:
    """Return what a test, by its id, is kept together with."""
    module = test.partition("::")[0]
    return GROUPS.get(module, "airflow" if module.startswith(SYSTEM) else module)


class ByWhatIsShared(LoadScopeScheduling):
    """Give each group of tests to one process.

    The marker of pytest-xdist 3.8 for this, ``xdist_group``, had no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
