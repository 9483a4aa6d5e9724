from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.plugins.notebook_jobs.authorization import ID_MAX, TaskRef

IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=50)
GOOD = {"dag_id": "d", "run_id": "r", "task_id": "t"}


def query(**parts: str) -> str:
    return "&".join(f"{name}={value}" for name, value in parts.items())


@given(IDS, IDS, IDS, st.integers(-1, 10_000), st.none() | st.integers(1, 99))
def test_a_reference_comes_back_from_its_query(dag_id, run_id, task_id, map_index, try_number):
    ref = TaskRef(dag_id, run_id, task_id, map_index, try_number)
    assert TaskRef.parse(ref.query()) == ref


@pytest.mark.parametrize("map_index", ["{MAP_INDEX}", "%7BMAP_INDEX%7D", "-1", ""])
def test_a_task_that_is_not_mapped(map_index):
    assert TaskRef.parse(query(**GOOD, map_index=map_index)) == TaskRef("d", "r", "t", -1)


def test_ids_may_come_as_they_are_with_a_plus():  # as Airflow 3.1 sends them
    ref = TaskRef.parse("dag_id=d&run_id=manual__2026-01-01T00:00:00+00:00&task_id=g.t&map_index=3&theme=dark")
    assert ref == TaskRef("d", "manual__2026-01-01T00:00:00+00:00", "g.t", 3)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ("", "dag_id"),
        (query(dag_id="d", run_id="r"), "task_id"),
        (query(**{**GOOD, "run_id": ""}), "run_id"),
        (query(**{**GOOD, "dag_id": "x" * (ID_MAX + 1)}), "dag_id"),
        (query(**{**GOOD, "task_id": "a%00b"}), "task_id"),
        (query(**GOOD, map_index="-2"), "map_index"),
        (query(**GOOD, map_index="1 or 1=1"), "map_index"),
        (query(**GOOD, map_index="9" * 10), "map_index"),
        (query(**GOOD, map_index="\u0663"), "map_index"),
        (query(**GOOD, try_number="0"), "try_number"),
        (query(**GOOD, try_number="1.5"), "try_number"),
        (query(**GOOD) + "&dag_id=other", "dag_id"),  # one part is checked, another is shown
    ],
)
def test_what_is_forged_is_refused(bad, field):
    with pytest.raises(ValueError, match=f"^{field}: "):
        TaskRef.parse(bad)
