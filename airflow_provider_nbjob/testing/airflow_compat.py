"""All that the testing kit uses of Airflow's core and that is not public API.

Each name was read in Airflow 3.1.8, 3.2.2 and 3.3.2. `run_dag` imports this module; it loads the models of the metadata
database.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from airflow.sdk import DAG

BUNDLE = "dags-folder"  # the one DAG bundle that Airflow has if no other is configured


class Instance(NamedTuple):
    """A task instance after its run, and the XComs that it pushed.

    :param map_index: -1 if the task is not mapped
    :param state: None if Airflow gave it none
    :param xcoms: values by key
    """

    task_id: str
    map_index: int
    state: str | None
    xcoms: dict[str, Any]


def make_tables(path: Path) -> None:
    """Make the tables of the metadata database.

    :raises RuntimeError: if this process uses another database than the one at `path`
    """
    used = import_module("airflow.settings").SQL_ALCHEMY_CONN
    if used != f"sqlite:///{path}":
        raise RuntimeError("This process uses another database of Airflow than that of the tests, which is left alone")
    import_module("airflow.utils.db").initdb()


def dags_of(path: Path) -> dict[str, DAG]:
    """Return the DAGs of a file by their ids.

    :raises ValueError: if it cannot be imported; the message has the traceback
    """
    bag = _dag_bag_module().DagBag(str(path))
    if bag.import_errors:
        raise ValueError(f"{path} cannot be imported:\n" + "\n".join(bag.import_errors.values()))
    dags: dict[str, DAG] = bag.dags
    return dags


def store(dag: DAG) -> None:
    """Write a DAG into the metadata database, as Airflow's DAG processor does. `DAG.test` needs it there.

    `DAG.test` itself stores only DAGs that it finds in a file of the DAGs folder.
    """
    import_module("airflow.dag_processing.bundles.manager").DagBundlesManager().sync_bundles_to_db()
    module = _dag_bag_module()
    bag = module.DagBag(os.devnull)
    bag.bag_dag(dag)
    module.sync_bag_to_db(bag, BUNDLE, None)


def instances_of(run: Any) -> list[Instance]:
    """Return the task instances of a run, sorted by task and map index.

    :param run: as returned by `DAG.test`
    """
    model = import_module("airflow.models.xcom").XComModel
    xcoms: dict[tuple[str, int], dict[str, Any]] = {}
    with import_module("airflow.utils.session").create_session() as session:
        rows = session.query(model).filter(model.dag_id == run.dag_id, model.run_id == run.run_id)
        for row in rows:
            xcoms.setdefault((row.task_id, row.map_index), {})[row.key] = _value_of(row)
    found = [
        Instance(ti.task_id, ti.map_index, ti.state and str(ti.state), xcoms.get((ti.task_id, ti.map_index), {}))
        for ti in run.get_task_instances()
    ]
    return sorted(found, key=lambda instance: (instance.task_id, instance.map_index))


def _value_of(row: Any) -> Any:
    """Return the value of an XCom as a task that pulls it gets it; as it is stored if no task could pull it.

    `XComModel.deserialize_value` asks no XCom backend, and takes a text such as ``"123"`` for JSON.

    :param row: of the table of XComs
    """
    try:
        return import_module("airflow.sdk.execution_time.xcom").XCom.deserialize_value(row)
    except Exception:  # of a class that `[core] allowed_deserialization_classes` does not list, of a backend
        return row.value


def _dag_bag_module() -> Any:
    """Return the module that has `DagBag` and `sync_bag_to_db`: another one in Airflow 3.1."""
    try:
        return import_module("airflow.dag_processing.dagbag")
    except ImportError:
        return import_module("airflow.models.dagbag")
