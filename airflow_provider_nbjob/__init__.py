"""Run notebooks in production: an Apache Airflow provider for Vertex AI `NotebookExecutionJob`s."""

__version__ = "0.1.0"
