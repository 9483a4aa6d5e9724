"""Emulate NotebookService of the Vertex AI API on this machine, and run its notebooks for real.

`python -m airflow_provider_nbjob.emulator` serves it; no module of the provider imports it. It follows the API's
documentation and, if that is silent, reports about the real service; `service.py` names what comes from which.
"""
