"""Score the customers of a day, and publish the model if it is good enough."""

from airflow.sdk import DAG, task

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

with DAG("score", schedule="@daily") as dag:
    score = CreateNotebookExecutionJobOperator(
        task_id="score",
        location="us-central1",
        gcs_notebook_source="gs://ml-team/notebooks/score.ipynb",
        notebook_runtime_template_resource_name="standard",
        service_account="score@my-project.iam.gserviceaccount.com",
        gcs_output_uri="gs://ml-team/runs",
        deferrable=True,
    )

    @task.short_circuit
    def is_good(auc):
        return auc > 0.8

    @task
    def publish(uri):
        return f"published {uri}"

    is_good(score.output["results"]["auc"]) >> publish(score.output["output_notebook_uri"])
