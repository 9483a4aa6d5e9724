"""Put the result of a job into the events of a task's outlets, from which the tasks that consume the assets take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_nbjob.job import JobResult
from airflow_provider_nbjob.masking import redact

# Size of the results in an event as JSON, in bytes. Airflow sends the events to each task that reads them.
EXTRA_RESULTS_MAX_BYTES = 16 * 1024


def extra_of(result: JobResult, log: Any) -> dict[str, Any]:
    """Return the `extra` of an event, as JSON values without the secrets that Airflow masks.

    If the results are larger than `EXTRA_RESULTS_MAX_BYTES`, the largest are None, and the log has a warning.

    :param log: logger of the task
    """
    from airflow_provider_nbjob.notebook.results import fit  # not while a DAG is parsed

    masked = redact(result.results)
    results = dict(masked) if isinstance(masked, Mapping) else {}
    for name, reason in fit(results, EXTRA_RESULTS_MAX_BYTES).items():
        log.warning("The asset event has no results[%r], which the task's XCom has: %s", name[:100], reason)
    return {
        "job_name": result.name,
        "job_state": str(result.job_state),
        "output_notebook_uri": result.output_notebook_uri,
        "results": results,
    }


def describe_outlets(context: Mapping[str, Any], outlets: Iterable[Any], result: JobResult, log: Any) -> None:
    """Add the result to the `extra` of each outlet's event. What a user's own code has put there, wins. Never raise.

    :param context: the task's context, which has the events
    :param outlets: the task's outlets; those that are no assets have no events
    :param log: logger of the task
    """
    extra = None
    for outlet in outlets:
        try:
            event = context["outlet_events"][outlet]
        except TypeError:  # of what is no asset, such as a table
            continue
        except Exception as error:  # of Airflow, which does not answer what a reference stands for
            log.warning("The result is not put into the event of %s: %s", outlet, error)
            continue
        extra = extra or extra_of(result, log)
        event.extra = {**extra, **event.extra}
