"""Report notebooks to Airflow's collector of hook lineage, for tasks that call the hook themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from airflow_provider_nbjob.airflow_compat import collects_hook_lineage
from airflow_provider_nbjob.job import bucket_and_path

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

# Characters that end the path of a URI. Airflow cuts an asset's URI off at "#", and sorts what follows "?".
_ESCAPED = {ord(character): quote(character) for character in "%?#"}


def report_notebook(
    hook: NotebookExecutionJobHook, uri: str, method: Literal["add_input_asset", "add_output_asset"]
) -> None:
    """Report a notebook in Cloud Storage as an asset that the running task reads or writes. Never raise.

    Do nothing if no task runs in this process, or if nobody reads what hooks report.

    :param uri: ``gs://bucket/notebook.ipynb``
    :param method: of the collector
    """
    try:
        if not uri or not collects_hook_lineage():
            return
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        bucket, path = bucket_and_path(uri)
        asset = {"bucket": bucket, "key": path.translate(_ESCAPED)}
        getattr(get_hook_lineage_collector(), method)(context=hook, scheme="gs", asset_kwargs=asset)
    except Exception as error:  # of Airflow, of a provider's assets, of a reader: the task has nothing to do with it
        hook.log.debug("The hook lineage of %s is not reported: %r", uri, error)
