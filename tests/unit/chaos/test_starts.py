"""The tasks of `make chaos` that start in the triggerer are handed to it as Airflow does."""

from __future__ import annotations

from importlib import import_module

from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger

from tests.chaos.schedule import Start, Task
from tests.chaos.starts import RUN_ID, TASK_ID, StartedTask

TASK = Task(7, "job-7", "us-central1", "c", 0, 5, "SUCCEEDED", deadline=60.0, start=Start())


def test_every_triggerer_gets_the_same_task_instance():
    started = StartedTask(TASK)
    first, second = started.workload(), started.workload()
    assert first.ti == second.ti
    assert (first.ti.dag_id, first.ti.task_id, first.ti.run_id) == (TASK.dag_id, TASK_ID, RUN_ID)
    assert first.timeout_after == second.timeout_after
    assert first.timeout_after is not None
    assert not started.is_timed_out


def test_the_runner_makes_a_trigger_of_it():
    made = StartedTask(TASK).workload()
    ti = TriggerRunner.create_runtime_ti(made.ti, made.dag_data, made.dag_run_data)
    context = ti.get_template_context()
    assert context["ds"] == "2026-01-01"
    kwargs = Trigger._decrypt_kwargs(made.encrypted_kwargs)
    module, _, name = made.classpath.rpartition(".")
    trigger = getattr(import_module(module), name)(**kwargs)
    trigger.task_instance = ti
    assert '"location": "us-central1"' in trigger.arguments


def test_a_task_without_a_deadline_is_never_given_up():
    started = StartedTask(Task(8, "job-8", "us-central1", "c", 0, 5, "SUCCEEDED", start=Start()))
    assert started.timeout_after is None
    assert not started.is_timed_out
