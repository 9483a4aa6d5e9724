"""Ask little of Airflow's API server, which a large Airflow runs out of first."""

from __future__ import annotations

from typing import Any

from airflow_provider_nbjob.airflow_compat import is_resumed
from airflow_provider_nbjob.links.notebook_execution_job import has_linked_record


class FewRequests:
    """Mixin of a task that leaves out requests by which Airflow would say what it has said before."""

    starts_in_triggerer = False  # whether no worker has sent the rendered arguments before
    operator_extra_links: Any
    template_fields: Any

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Render the arguments of the task, or those that are below one of them.

        Airflow calls this method for mapped tasks too, so that operators may override it (`MappedOperator`, in Airflow
        3.1 to 3.3). Then it sends what stands in the `template_fields`, which it has of a task that was deferred; and
        at the end it pushes the `operator_extra_links`, which the API server makes of the record.
        """
        super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)  # type: ignore[misc]
        if parent is not self:
            return
        if has_linked_record(self):
            self.operator_extra_links = ()
        if is_resumed(context.get("ti")) and not self.starts_in_triggerer:
            self.template_fields = ()
