"""Which processes an Airflow consists of, and on what they run: a small machine's, or production's."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.support.cpu import cpu_seconds
from tests.support.services import PostgreSQL, Redis

API_SERVER = ("api-server", "--host", "127.0.0.1", "--workers")


@dataclass(frozen=True)
class Deployment:
    """What an Airflow consists of.

    :param components: the arguments of `airflow` that start each process, by its name, in the order of their start
    :param settings: those of all processes
    :param are_apart: whether each process has a home, a working directory and a copy of the DAGs of its own, as on
        machines of their own; they share the folder of the logs
    """

    components: dict[str, tuple[str, ...]]
    settings: dict[str, str] = field(default_factory=dict)
    are_apart: bool = False

    def names(self, command: str) -> list[str]:
        """Return the names of the processes of one kind, such as ``triggerer``."""
        return [name for name, arguments in self.components.items() if command in arguments[:2]]


SMALL = Deployment(
    {
        "api-server": (*API_SERVER, "1"),
        "scheduler": ("scheduler",),
        "dag-processor": ("dag-processor",),
        "triggerer": ("triggerer",),
    }
)


class Production:
    """PostgreSQL and Redis, for the processes that a production Airflow on Celery has: two of each that may be two."""

    def __init__(self) -> None:
        self.database, self.broker = PostgreSQL(), Redis()
        self._stack = ExitStack()
        self._made = 0

    def __enter__(self) -> Production:
        with ExitStack() as stack:
            for service in (self.database, self.broker):
                stack.enter_context(service)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each service."""
        running = {service.name: service.process for service in (self.database, self.broker)}
        return {name: cpu_seconds(process.pid) for name, process in running.items() if process}

    def deployment(self, concurrency: int = 4) -> Deployment:
        """Return one on a new database, with a broker of its own.

        :param concurrency: the tasks that each worker runs at once; it takes them from a queue of its own too
        """
        self._made += 1
        database = self.database.create_database(f"airflow{self._made}")
        no_logs = "--skip-serve-logs"  # they are read from the folder that all share
        worker = ("celery", "worker", no_logs, "--concurrency", str(concurrency))
        workers = {
            name: (*worker, "--celery-hostname", name, "--queues", f"default,{name}")
            for name in ("worker-1", "worker-2")
        }
        return Deployment(
            {
                "api-server": (*API_SERVER, "2"),
                "dag-processor": ("dag-processor",),
                "scheduler-1": ("scheduler", no_logs),
                "scheduler-2": ("scheduler", no_logs),
                **workers,
                "triggerer-1": ("triggerer", no_logs),
                "triggerer-2": ("triggerer", no_logs),
            },
            {
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
                "AIRFLOW__CELERY__BROKER_URL": self.broker.url(self._made),
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            },
            are_apart=True,
        )
