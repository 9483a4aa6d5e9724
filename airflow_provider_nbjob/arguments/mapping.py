"""Check the arguments of a mapped task when its DAG is parsed.

Airflow creates the operators of a mapped task on the worker, so their own checks come late. Airflow 3.1 to 3.3 let a
class override `partial`, as `BaseOperatorMeta` documents. It returns an `OperatorPartial`, whose module is not public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.definitions.mappedoperator import OperatorPartial

from airflow_provider_nbjob.arguments.from_trigger import MAPPABLE, StartsInTriggerer, is_mappable, trigger_args
from airflow_provider_nbjob.lifecycle.task_output import keys_of

if TYPE_CHECKING:
    from airflow_provider_nbjob.arguments.checked_task import CheckedTask


class CheckedPartial(OperatorPartial):
    """A partial operator that checks the arguments that it is expanded with.

    `defaults` holds the `default_args` of the DAG, of its task group and of the call itself.
    """

    __slots__ = ("defaults",)
    defaults: Mapping[str, Any]

    @classmethod
    def of(cls, made: OperatorPartial, defaults: Mapping[str, Any] | None) -> CheckedPartial:
        """Convert Airflow's partial operator, which must not be used any more.

        :param made: Airflow's partial operator
        :param defaults: `default_args` of the call
        """
        checked = cls(operator_class=made.operator_class, kwargs=made.kwargs, params=made.params)
        made._expand_called = True  # else Airflow warns, when it is deleted, that it was never mapped
        owners = (made.kwargs.get("dag"), made.kwargs.get("task_group"))
        inherited = [owner.default_args or {} for owner in owners if owner is not None]
        checked.defaults = {name: value for given in (*inherited, defaults or {}) for name, value in given.items()}
        return checked

    def expand(self, **mapped_kwargs: Any) -> Any:
        """Check all known arguments, then map the task, as Airflow's `expand` does."""
        self._expand_called = True  # else Airflow warns, after an error, that it was never mapped
        self._task.check_expanded(self._given, mapped_kwargs)
        return self._started(super().expand(**mapped_kwargs), mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Check all known arguments, then map the task, as Airflow's `expand_kwargs` does."""
        self._expand_called = True
        if isinstance(kwargs, Sequence):
            self._task.check_expanded_kwargs(self._given, [item for item in kwargs if isinstance(item, Mapping)])
        return self._started(super().expand_kwargs(kwargs, strict=strict), kwargs)

    def _started(self, mapped: Any, over: Any) -> Any:
        """Say of a mapped task whether it starts in the triggerer: its class can say it of no single task.

        :param over: what it is mapped over
        """
        if not issubclass(self._task, StartsInTriggerer):
            return mapped
        given, arguments = self._given, None
        if given.get("start_from_trigger") and is_mappable(over) and _names_in(over) <= MAPPABLE:
            values = {**_defaults_of(self._task), **given, "params": self.params}
            values["mapped_names"] = list(over) if isinstance(over, Mapping) else None
            values["pushed_keys"] = keys_of(values["multiple_outputs"], values["xcom_keys"])
            arguments = trigger_args(self._task, values, self.kwargs.get("dag"))
        mapped.start_trigger_args, mapped.start_from_trigger = arguments, arguments is not None
        return mapped

    @property
    def _task(self) -> type[CheckedTask]:
        return cast("type[CheckedTask]", self.operator_class)

    @property
    def _given(self) -> dict[str, Any]:
        return {**self.defaults, **self.kwargs}


def _names_in(over: Any) -> set[str]:
    return {*over} if isinstance(over, Mapping) else {name for item in over for name in item}


def _defaults_of(kind: type) -> dict[str, Any]:
    """Return the defaults of the arguments of an operator, by name; those of a derived class win."""
    initializers = [vars(each).get("__init__") for each in reversed(kind.__mro__[:-1])]
    return {one.name: one.default for init in initializers if init for one in signature(init).parameters.values()}
