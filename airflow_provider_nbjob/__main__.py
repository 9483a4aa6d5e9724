"""Run a command of this package: ``python -m airflow_provider_nbjob doctor --help``."""

from __future__ import annotations

import sys

from airflow_provider_nbjob.doctor.command_line import main

if __name__ == "__main__":
    sys.exit(main())
