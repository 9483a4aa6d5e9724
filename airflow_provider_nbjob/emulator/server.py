"""The emulator as a whole: one store, one engine and one service, over gRPC and REST, with Cloud Storage beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from airflow_provider_nbjob.emulator.dataform import Dataform
from airflow_provider_nbjob.emulator.engine import Engine
from airflow_provider_nbjob.emulator.faults import Faults
from airflow_provider_nbjob.emulator.grpc_api import start_grpc
from airflow_provider_nbjob.emulator.methods import methods
from airflow_provider_nbjob.emulator.rest_api import RestServer
from airflow_provider_nbjob.emulator.service import NotebookService
from airflow_provider_nbjob.emulator.storage import Storage, reachable
from airflow_provider_nbjob.emulator.store import Store

PROJECT = "emulator-project"


class Emulator:
    """A running emulator, from entering its context to leaving it.

    :param data_dir: holds jobs, Cloud Storage (``cloudstorage/BUCKET/``) and Dataform (``dataform/NAME/``)
    :param host: address to listen on. Notebooks run as the user who starts this: leave it on the loopback interface
    :param grpc_port: 0 for a free one, as for `rest_port` and `storage_port`
    :param max_concurrent: notebooks that run at once
    :param cleanup_delay: seconds between the end of a job and that of its operation
    :param can_cancel: false: cancelling an operation is answered UNIMPLEMENTED
    :param buckets: buckets to make
    :param uploads: (folder, ``gs://`` URI) pairs to upload at start
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        rest_port: int = 0,
        storage_port: int = 0,
        max_concurrent: int = 2,
        cleanup_delay: float = 5.0,
        can_cancel: bool = True,
        buckets: Sequence[str] = (),
        uploads: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._host = host
        self._ports = (grpc_port, rest_port, storage_port)
        self._max_concurrent, self._cleanup_delay, self._can_cancel = max_concurrent, cleanup_delay, can_cancel
        self._buckets, self._uploads = buckets, uploads
        self._resources = ExitStack()
        self.grpc_address = self.rest_url = self.storage_url = ""

    def __enter__(self) -> Emulator:
        with ExitStack() as stack:
            self._start(stack)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.close()

    def _start(self, stack: ExitStack) -> None:
        grpc_port, rest_port, storage_port = self._ports
        self._data_dir.mkdir(parents=True, exist_ok=True)
        storage = Storage(self._host, storage_port, self._data_dir)
        stack.callback(storage.stop)
        for bucket in self._buckets:
            storage.create_bucket(bucket)
        for folder, uri in self._uploads:
            storage.upload(folder, uri)
        store = Store(self._data_dir / "jobs.sqlite")
        stack.callback(store.close)
        engine = Engine(
            store,
            storage,
            self._data_dir,
            max_concurrent=self._max_concurrent,
            cleanup_delay=self._cleanup_delay,
        )
        stack.callback(engine.stop)
        service, faults = NotebookService(store, engine, can_cancel=self._can_cancel), Faults()
        table = methods(service, Dataform(self._data_dir), faults)
        grpc_server, grpc_port = start_grpc(self._host, grpc_port, table)
        stack.callback(lambda: grpc_server.stop(1).wait())
        rest = RestServer(self._host, rest_port, table, service, faults)
        stack.callback(rest.stop)
        client_host = reachable(self._host)
        self.grpc_address = f"{client_host}:{grpc_port}"
        self.rest_url = f"http://{client_host}:{rest.port}"
        self.storage_url = storage.url

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the provider, and Google's Cloud Storage client, here."""
        connection = {
            "conn_type": "google_cloud_platform",
            "extra": {"project": PROJECT, "is_anonymous": True},
        }
        return {
            "NBJOB_EMULATOR_HOST": self.grpc_address,
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(connection),
        }
