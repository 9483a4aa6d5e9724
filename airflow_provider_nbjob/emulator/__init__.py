"""NotebookService of the Vertex AI API on this machine, running notebooks for real.

`python -m airflow_provider_nbjob.emulator` serves it; nothing in the provider knows of it. What it does follows the
API's documentation, and where that is silent, what was reported of the real service; `service.py` says which.
"""
