from __future__ import annotations

from itertools import count

from airflow_provider_nbjob.plugins.notebook_jobs.recent import Recent


def test_a_value_is_made_once_while_it_is_recent():
    recent, numbers = Recent(seconds=60), count()
    assert [recent.get("a", lambda: next(numbers)) for _ in range(3)] == [0, 0, 0]
    assert recent.get("b", lambda: next(numbers)) == 1


def test_an_old_value_is_made_anew():
    recent, numbers = Recent(seconds=0), count()
    assert [recent.get("a", lambda: next(numbers)) for _ in range(2)] == [0, 1]


def test_a_value_that_could_not_be_made_is_not_kept():
    recent = Recent(seconds=60)
    for _ in range(2):
        try:
            recent.get("a", {}.popitem)
        except KeyError:
            continue
        raise AssertionError("it was kept")


def test_the_oldest_goes():
    recent, numbers = Recent(seconds=60, most=2), count()
    for key in "abc":
        recent.get(key, lambda: next(numbers))
    assert recent.get("c", lambda: next(numbers)) == 2
    assert recent.get("a", lambda: next(numbers)) == 3
