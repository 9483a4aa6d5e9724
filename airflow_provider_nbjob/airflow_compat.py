"""Names of Airflow that are not public API, with the versions of Airflow in which they were read.

A test looks up each name, so that an Airflow without it fails the test before it fails a task.

Operators import this module when a DAG is parsed, so it imports nothing of Airflow before a function is called. The
names that only the API server needs are in `plugins/notebook_jobs/airflow_compat.py`.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import re

log = logging.getLogger(__name__)
T = TypeVar("T")

# In place of the method by which a task goes on, if its trigger failed, or was given up at the task's time limit
# (`TRIGGER_FAIL_REPR`). Read in Airflow 3.1.8, 3.2.2 and 3.3.2.
TRIGGER_FAILED = "__fail__"

# Parts of a task's context, and methods of its task instance, that ask what the triggerer's supervisor does not know:
# it leaves these requests without an answer (`ToTriggerSupervisor` in airflow/jobs/triggerer_job_runner.py of 3.3.2).
UNANSWERED_IN_TRIGGERER = frozenset(
    {
        *("prev_data_interval_start_success", "prev_data_interval_end_success"),
        *("prev_start_date_success", "prev_end_date_success"),
        *("inlet_events", "task_state_store", "asset_state_store"),
    }
)
UNANSWERED_OF_TASK = frozenset({"get_previous_dagrun", "get_first_reschedule_date", "get_task_breadcrumbs", "get_dag"})

_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
# The masker of the task SDK, which knows the secrets of workers and triggerers, and that of Airflow's core, which the
# API server and the models of the metadata database use. The names are the same in 3.1.0, 3.1.8, 3.2.2 and 3.3.2.
_MASKERS = ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")


class NotInThisAirflow(RuntimeError):
    """A name is gone, or takes other arguments. That says nothing of the task that was asked about."""


class SecretsMasker(Protocol):
    """The parts of Airflow's secrets masker that are used.

    :param replacer: matches each secret that the masker knows; None if it knows none
    """

    replacer: re.Pattern[str] | None

    def should_hide_value_for_key(self, name: str) -> bool:
        """Return whether Airflow hides a value of this name."""

    def redact(self, item: str) -> Any:
        """Return the text with each secret replaced."""


def secrets_maskers() -> list[SecretsMasker]:
    """Return the maskers of this process. A worker may be installed without Airflow's core, and then has one.

    :raises AttributeError: if a masker cannot be had in this way: a text that was not masked must not be shown
    """
    found = []
    for module in _MASKERS:
        try:
            found.append(import_module(module)._secrets_masker())
        except ImportError:
            continue
    return found


class Stats(Protocol):
    """The parts of Airflow's metrics that are used."""

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
        """Add to a counter."""

    def gauge(self, stat: str, value: float, *, tags: dict[str, str] | None = None) -> None:
        """Set a gauge."""

    def timing(self, stat: str, dt: float, *, tags: dict[str, str] | None = None) -> None:
        """Note a duration in milliseconds."""


@cache
def stats() -> Stats:
    """Return what sends metrics in this process, as `[metrics]` in Airflow's configuration says.

    Airflow 3.2 and 3.3 have it twice, for the core and for the task SDK, whose one knows its backend in every process
    only once `airflow.sdk.serde` was imported. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.
    """
    with suppress(ImportError):  # Airflow 3.1 has one for all
        import_module("airflow.sdk.serde")
    found: Stats = import_module("airflow.providers.common.compat.sdk").Stats
    return found


@cache
def has_values_in_metric_names() -> bool:
    """Return whether Airflow also sends metrics under names that hold the values of their tags.

    Airflow 3.1 has no option for it, and does so.
    """
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.getboolean("metrics", "legacy_names_on", fallback=True))


@cache
def hostname() -> str:
    """Return the name of this machine, as Airflow's own metrics have it. Read in Airflow 3.1.8, 3.2.2 and 3.3.2."""
    return str(import_module("airflow.utils.net").get_hostname())


def runs_in_process() -> bool:
    """Return whether a person's command, which Ctrl-C interrupts, runs the task in its own process.

    In Airflow 3.1 to 3.3 `airflow dags test` and `airflow tasks test` use `InProcessTestSupervisor`. If this Airflow
    cannot be asked, return False: then the process is taken for a worker or a triggerer, whose end does not say that
    the task is over.
    """
    try:
        task_runner = import_module(_TASK_RUNNER)
    except ImportError as error:
        log.warning("Whether a person's command runs this task cannot be found out in this Airflow: %s", error)
        return False
    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms"


def is_tasks_test() -> bool:
    """Return whether `airflow tasks test` runs this task.

    On a date that has a run, that command gets the run's own task instance: its run id, try number and id. In Airflow
    3.1 to 3.3 it sets ``AIRFLOW_TEST_MODE`` (airflow/cli/commands/task_command.py).
    """
    return bool(os.environ.get("AIRFLOW_TEST_MODE")) and runs_in_process()


def is_resumed(ti: Any) -> bool:
    """Return whether a task instance goes on after it was deferred; False if this Airflow does not say.

    Read in Airflow 3.1.8, 3.2.2 and 3.3.2.
    """
    return bool(getattr(getattr(ti, "_ti_context_from_server", None), "next_method", None))


def state_of_task(ti: Any) -> str | None:
    """Ask Airflow for the state of a task instance; return None if it has none.

    Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if this Airflow cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    states = _call(
        _TASK_RUNNER,
        "RuntimeTaskInstance",
        "get_task_states",
        {"dag_id": ti.dag_id, "task_ids": [ti.task_id], "run_ids": [ti.run_id], "map_index": ti.map_index},
    )
    return next(iter(states.get(ti.run_id, {}).values()), None)


def is_api_server_up(seconds: float) -> bool:
    """Return whether an API server of Airflow answers at the address that tasks use, or is at least there.

    Its ``health`` needs neither a token nor the database. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :param seconds: time limit; a server that is connected to by then and does not answer is overloaded, but there
    """
    import requests
    from airflow.providers.common.compat.sdk import conf

    url = conf.get("core", "execution_api_server_url", fallback=None)
    url = url or f"{conf.get('api', 'base_url', fallback='http://localhost:8080').rstrip('/')}/execution"
    try:
        answer = requests.get(f"{url.rstrip('/')}/health", timeout=seconds / 2, allow_redirects=False)
    except requests.exceptions.SSLError:  # of a certificate that only Airflow's own client knows
        return True
    except requests.exceptions.ConnectionError:
        return False
    except requests.exceptions.RequestException:
        return True
    return answer.status_code < 500  # a load balancer answers with 502 or 503 in place of servers that are down


def xcom_of_task(ti: Any, key: str) -> Any:
    """Return an XCom of a task instance, or None if it has no such XCom. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if this Airflow cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    of_task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    return _call("airflow.providers.common.compat.sdk", "XCom", "get_one", {"key": key, **of_task})


def set_xcom_of_task(ti: Any, key: str, value: Any) -> None:
    """Set an XCom of a task instance from the triggerer, which writes to Airflow's database, without the API server.

    Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if this Airflow cannot be asked in this way
    :raises Exception: if Airflow does not take it
    """
    of_task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    _call("airflow.providers.common.compat.sdk", "XCom", "set", {"key": key, "value": value, **of_task})


def delete_xcom_of_task(ti: Any, key: str) -> None:
    """Delete an XCom of a task instance, if it has one. Read in Airflow 3.1.8, 3.2.2 and 3.3.2.

    :raises NotInThisAirflow: if this Airflow cannot be asked in this way
    :raises Exception: if Airflow does not answer
    """
    of_task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    _call("airflow.providers.common.compat.sdk", "XCom", "delete", {"key": key, **of_task})


def renders_in_triggerer() -> bool:
    """Return whether this Airflow renders the templates of a task that starts in the triggerer, and can end it there.

    Airflow 3.3 is the first that does.
    """
    base = import_module("airflow.triggers.base")
    return hasattr(base.BaseTrigger, "render_template_fields") and hasattr(base, "TaskSuccessEvent")


def why_params_on_worker(*given: Mapping[str, Any] | None) -> str | None:
    """Return what of a task's params the triggerer would not do; None if there is nothing.

    Airflow checks those of a DAG as a run is made, and those of a task as it starts, but not in the triggerer. A param
    without a value ends the whole triggerer there, even if each run gives one. Read in Airflow 3.3.2 (`create_triggers`
    in airflow/jobs/triggerer_job_runner.py, and `process_params`).

    :param given: the params of the DAG, and of the task
    """
    module = import_module("airflow.sdk.definitions.param")
    merged = module.ParamsDict()
    try:
        for params in given:
            merged.update(params or {})
        merged.validate()
    except module.ParamValidationError:
        return "it has a param without a valid value of its own"
    of_all = map(merged.get_param, merged)
    return "a worker checks the task's params" if any(p.schema and p.source == "task" for p in of_all) else None


def success_event(xcoms: Mapping[str, Any] | None) -> Any:
    """Return the event that ends a task as a success, without a worker.

    :param xcoms: of the task, by key; None for none
    """
    return import_module("airflow.triggers.base").TaskSuccessEvent(xcoms=xcoms)


def why_end_on_worker(ti: Any) -> str | None:
    """Return what Airflow leaves out if a task ends in the triggerer, and this one needs; None if there is nothing.

    Read in Airflow 3.3.2: `handle_event_submit` in airflow/models/trigger.py sets the state and the XComs. It also
    requests `on_success_callback`, but `_execute_task_callbacks` in airflow/dag_processing/processor.py calls none.

    :param ti: the task instance, with its serialized task
    """
    if ti.task.inlets or ti.task.outlets:
        return "it has inlets or outlets"
    if ti.task.has_on_success_callback:
        return "it has on_success_callback"
    if ti.map_index < 0 and next(iter(ti.task.iter_mapped_dependants()), None) is not None:
        return "a task is mapped over what it returns"
    if import_module("airflow.sdk.listener").get_listener_manager().has_listeners:
        return "this Airflow has listeners, such as OpenLineage's"
    from airflow.providers.common.compat.sdk import conf

    backend = conf.get("core", "xcom_backend", fallback="BaseXCom")
    return None if backend.rpartition(".")[2] == "BaseXCom" else f"this Airflow keeps XComs in {backend}"


def collects_hook_lineage() -> bool:
    """Return whether a task runs in this process, and a plugin reads the lineage that the task's hooks report.

    Airflow has a collector in any case. To make it imports the assets of all providers.

    Read in Airflow 3.1.8, 3.2.2 and 3.3.2.
    """
    from airflow.sdk import get_current_context

    try:
        get_current_context()
    except RuntimeError:
        return False
    try:
        readers = import_module("airflow.sdk.plugins_manager").get_hook_lineage_readers_plugins()
    except ImportError:  # before Airflow 3.2
        plugins = import_module("airflow.plugins_manager")
        plugins.initialize_hook_lineage_readers_plugins()
        readers = plugins.hook_lineage_reader_classes
    return bool(readers)


def core_timetable(dag: Any) -> Any:
    """Return the timetable of a DAG with its arithmetic: from Airflow 3.2 on, a DAG has only its description."""
    try:
        encoders = import_module("airflow.serialization.encoders")
    except ImportError:
        return dag.timetable
    return encoders.coerce_to_core_timetable(dag.timetable)


class Command(NamedTuple):
    """A command of Airflow's command line.

    :param name: of the command
    :param help: one line
    :param path: full name of the function that runs it, which is imported when it runs. It takes the parsed arguments
    :param flags: each flag, and the arguments of argparse's `add_argument`
    """

    name: str
    help: str
    path: str
    flags: Iterable[tuple[str, Mapping[str, Any]]]


def command_group(name: str, help: str, commands: Iterable[Command]) -> Any:
    """Return a group of commands for Airflow's command line, which takes those of providers from 3.2 on.

    Read in Airflow 3.2.2 and 3.3.2 (airflow/cli/cli_parser.py and cli_config.py). In 3.1.8 the classes are there, but
    nothing asks a provider for commands.
    """
    cli = import_module("airflow.cli.cli_config")
    subcommands = [
        cli.ActionCommand(
            name=command.name,
            help=command.help,
            func=cli.lazy_load_command(command.path),
            args=tuple(cli.Arg((flag,), **settings) for flag, settings in command.flags),
        )
        for command in commands
    ]
    return cli.GroupCommand(name=name, help=help, subcommands=subcommands)


def read_connections_as_server() -> None:
    """Have this process, which runs no task, read connections from Airflow's database too.

    The task SDK asks the database only in a process with this variable. Read in Airflow 3.1.8, 3.2.2 and 3.3.2
    (`ensure_secrets_backend_loaded`), where `airflow connections get` sets it too.
    """
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def without_logs(call: Callable[[], T]) -> T:
    """Return the result of a call, while which this process writes neither logs nor warnings.

    Airflow's logs do not pass the standard library's `logging.disable`, and go to the standard output. Its own commands
    that print results use this decorator in 3.1.8, 3.2.2 and 3.3.2.
    """
    results: list[T] = []
    suppressed = import_module("airflow.utils.cli").suppress_logs_and_warning(lambda _: results.append(call()))
    suppressed(Namespace(verbose=False))
    return results[0]


def _call(module: str, owner: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a method of a class of Airflow's.

    :raises NotInThisAirflow: if the module, the class or the method does not exist, or takes other arguments
    """
    try:
        method = getattr(getattr(import_module(module), owner), name)
        signature(method).bind(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise NotInThisAirflow(f"{module}.{owner}.{name}: {error}") from error
    return method(**arguments)
