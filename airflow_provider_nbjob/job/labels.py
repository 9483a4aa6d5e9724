"""The labels that every job gets: they attribute its cost, and distinguish it from other jobs.

The Google provider uses the same names: `airflow-dag` and `airflow-task` in its BigQuery operators, and
`airflow-version`, written ``v3-3-2``, in those of Dataproc, Pub/Sub and Cloud Storage. This module imports neither
Airflow nor a package of Google's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from airflow_provider_nbjob.job.spec import LABELS_MAX, number_of_labels

LABEL_VALUE_MAX = 63  # characters; the API documents 64 for this resource, Google Cloud 63 for all other labels
_LETTERS_AND_DIGITS = {"Ll", "Lo", "Nd"}  # Unicode categories; Google documents no rule for other numbers and marks


def default_labels(*, dag_id: str, task_id: str, airflow_version: str) -> dict[str, str]:
    """Return the labels of a task's jobs, each cleaned by `label_value`.

    :param airflow_version: such as ``"3.3.2"``
    """
    return {
        "airflow-dag": label_value(dag_id),
        "airflow-task": label_value(task_id),
        "airflow-version": label_value(f"v{airflow_version}"),
    }


def label_value(text: str) -> str:
    """Convert a text to a valid value of a label.

    Normalize it by NFKC, convert it to lowercase, replace every character that a label may not hold by ``-``, and cut
    it to 63 characters.
    """
    lower = unicodedata.normalize("NFKC", text).lower()
    return "".join(c if _may_stand(c) else "-" for c in lower)[:LABEL_VALUE_MAX]


def merged(labels: Mapping[str, str] | None, defaults: Mapping[str, str]) -> dict[str, str]:
    """Add default labels to given ones.

    A given label takes precedence over a default one of the same name. A job has at most `LABELS_MAX` labels: defaults
    beyond that are left out.
    """
    result = dict(labels or {})
    room = LABELS_MAX - number_of_labels(result)
    added = [name for name in defaults if name not in result][: max(0, room)]
    return {**result, **{name: defaults[name] for name in added}}


def _may_stand(character: str) -> bool:
    return character in "-_" or unicodedata.category(character) in _LETTERS_AND_DIGITS
