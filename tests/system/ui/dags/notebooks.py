"""What the tests of the UI look at: DAGs whose notebooks succeed, fail, are mapped, retried, hostile, or wait."""

from __future__ import annotations

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.patience import patient
from tests.system.notebook_tasks import arguments, cell
from tests.system.ui.runs import MARKUP

PLOT = """
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(4, 2))
axes.plot([1, 3, 2, 5])
axes.set_title(f"orders of {day}")
plt.show()
"""
TABLE = """
import pandas as pd
orders = pd.DataFrame({"region": ["north", "south"], "revenue": [1200.5, 800.0]})
orders
"""
RESULT = '{"day": day, "revenue": float(orders.revenue.sum())}'
FAILURE = 'print("looking for the west")\ndict(zip(orders.region, orders.revenue))["west"]'
ONE_FAILS = 'print(f"notebook {n}")\nassert int(n) != 1, f"notebook {n} fails as asked"'
FIRST_TRY_FAILS = 'print(f"this is try {try_number}")\nassert int(try_number) > 1, f"try {try_number} fails as asked"'
WAITING = f"""
import pathlib, time
print("waiting for the gate", flush=True)
end = time.monotonic() + {patient(240)}
while not pathlib.Path(gate).exists():
    assert time.monotonic() < end, "nobody opened the gate"
    time.sleep(0.2)
print("the gate is open")
"""


REPORT = arguments(
    *(cell(PLOT), cell(TABLE), cell(RESULT, "result")), parameters={"day": "{{ dag_run.run_after | ds }}"}
)

for dag_id in ("report", "private_report"):
    with DAG(dag_id, schedule=None):
        CreateNotebookExecutionJobOperator(**REPORT)

with DAG("failing", schedule=None):
    CreateNotebookExecutionJobOperator(
        **arguments(cell(PLOT), cell(TABLE), cell(FAILURE), *[cell("print('not reached')")] * 8)
    )

with DAG("mapped", schedule=None):
    CreateNotebookExecutionJobOperator.partial(**arguments(cell(ONE_FAILS))).expand(
        parameters=[{"n": n} for n in range(3)]
    )

with DAG("retried", schedule=None):
    CreateNotebookExecutionJobOperator(
        **arguments(cell(FIRST_TRY_FAILS), retries=1, parameters={"try_number": "{{ ti.try_number }}"})
    )

with DAG("hostile", schedule=None):
    CreateNotebookExecutionJobOperator(
        **arguments(
            cell("raise ValueError(day)"),
            display_name=f"{MARKUP} {{{{ run_id }}}}",
            parameters={"day": MARKUP},
        )
    )

# Its connection is no good: neither the task nor a page gets an answer from the API.
with DAG("unreachable", schedule=None):
    CreateNotebookExecutionJobOperator(
        **arguments(cell("1"), gcp_conn_id="no_good", api_endpoint="localhost:1", parameters={})
    )

# Runs until the file exists that the run's conf names, so that a test sees it run, and then end.
with DAG("waiting", schedule=None):
    CreateNotebookExecutionJobOperator(
        **arguments(cell(WAITING), parameters={"gate": "{{ dag_run.conf['gate'] }}"}, deferrable=True)
    )

with DAG("another", schedule=None):
    BashOperator(task_id="shell", bash_command="echo this is no notebook")
