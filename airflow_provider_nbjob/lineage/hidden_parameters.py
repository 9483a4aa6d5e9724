"""Keep secrets among a task's parameters from OpenLineage's provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from airflow_provider_nbjob.masking import mask_parameters, redact


class HidesParameters:
    """Mixin of an operator whose attribute `parameters` has secrets only while the operator runs.

    OpenLineage's provider sends the attribute `parameters` of any operator, which SQL operators have too. It masks an
    attribute of `TaskInfo` and sends the item of this dict, which stays as it is (`OpenLineageRedactor._redact` in
    version 2.20.3). It reads the attribute before the operator runs, and after that.
    """

    parameters: Any
    _hidden: tuple[Any, Any] | None = None  # the parameters, and the masked ones that stand in their place

    def _do_render_template_fields(
        self, parent: Any, template_fields: Any, context: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Render the arguments of the task, then hide their secrets; see `FewRequests` for when Airflow calls this."""
        super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)  # type: ignore[misc]
        if parent is self and self.parameters and find_spec("airflow.providers.openlineage"):
            mask_parameters(self.parameters)
            masked = redact(self.parameters)
            if _differ(masked, self.parameters):
                self._hidden = self.parameters, masked
                self.parameters = masked

    @contextmanager
    def shown_parameters(self) -> Iterator[None]:
        """Let the operator have its parameters, unless a `pre_execute` of the user has set others since."""
        if self._hidden is None or self.parameters is not self._hidden[1]:
            yield
            return
        self.parameters, masked = self._hidden
        try:
            yield
        finally:
            self.parameters = masked


def _differ(masked: Any, parameters: Any) -> bool:
    try:
        return bool(masked != parameters)
    except Exception:  # of a value that cannot be compared, such as an array, which is no valid parameter
        return True
