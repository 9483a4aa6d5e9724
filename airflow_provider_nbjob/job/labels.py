"""The labels that every job gets, so that its cost can be attributed and it is told from jobs of others.

Their names are those that Google's own provider uses: `airflow-dag` and `airflow-task` of BigQuery's operators, and
`airflow-version`, written ``v3-3-2``, of Dataproc's, Pub/Sub's and Cloud Storage's. Pure: knows neither Airflow nor
Google.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from airflow_provider_nbjob.job.spec import LABELS_MAX, number_of_labels

LABEL_VALUE_MAX = 63  # characters; the job's own field documents 64, all other labels of Google Cloud have 63
_LETTERS_AND_DIGITS = {"Ll", "Lo", "Nd"}  # Unicode categories; of other numbers and of marks no page says anything


def default_labels(*, dag_id: str, task_id: str, airflow_version: str) -> dict[str, str]:
    """Return the labels of a task's jobs, each cleaned to what a label may hold."""
    return {
        "airflow-dag": label_value(dag_id),
        "airflow-task": label_value(task_id),
        "airflow-version": label_value(f"v{airflow_version}"),
    }


def label_value(text: str) -> str:
    """Return a text as the value of a label: lowercase, other characters than letters and digits as ``-``, and cut."""
    lower = unicodedata.normalize("NFKC", text).lower()
    return "".join(c if _may_stand(c) else "-" for c in lower)[:LABEL_VALUE_MAX]


def merged(labels: Mapping[str, str] | None, defaults: Mapping[str, str]) -> dict[str, str]:
    """Return labels with default ones; the given ones win, and no more are added than a job may have."""
    result = dict(labels or {})
    room = LABELS_MAX - number_of_labels(result)
    added = [name for name in defaults if name not in result][: max(0, room)]
    return {**result, **{name: defaults[name] for name in added}}


def _may_stand(character: str) -> bool:
    return character in "-_" or unicodedata.category(character) in _LETTERS_AND_DIGITS
