"""Vertex AI / Colab Enterprise `NotebookService` on this machine, running notebooks for real.

Started with ``python -m airflow_provider_nbjob.emulator``, or in a test as `server.Emulator`. The parts, from the
outside in: `grpc_api` and `rest_api` carry calls; `rpcs` counts them and lets faults happen; `service` holds the
API's rules; `store` keeps jobs; `engine` runs them, each through `run_notebook` in a process of its own.
"""
