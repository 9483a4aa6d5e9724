"""Start the whole emulator: one store, one engine and one service, over gRPC and REST, with Cloud Storage beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from airflow_provider_nbjob.emulator.data_dir import locked, read_or_make_token
from airflow_provider_nbjob.emulator.dataform import Dataform
from airflow_provider_nbjob.emulator.engine import Engine
from airflow_provider_nbjob.emulator.faults import Faults
from airflow_provider_nbjob.emulator.grpc_api import GrpcServer
from airflow_provider_nbjob.emulator.http_server import HttpServer
from airflow_provider_nbjob.emulator.methods import Methods
from airflow_provider_nbjob.emulator.ports import listen
from airflow_provider_nbjob.emulator.rest_api import make_app
from airflow_provider_nbjob.emulator.scripts import Script, Scripts
from airflow_provider_nbjob.emulator.secret_manager import Secrets
from airflow_provider_nbjob.emulator.service import NotebookService
from airflow_provider_nbjob.emulator.storage import Storage, reachable
from airflow_provider_nbjob.emulator.store import Store

PROJECT = "emulator-project"
NOT_RUN = Script(
    state="FAILED",
    message="No script matches this job, and this emulator runs no notebooks: it was started with --no-kernels.",
)


class Emulator:
    """A running emulator, from entering its context to leaving it.

    :param data_dir: holds jobs, Cloud Storage (``cloudstorage/BUCKET/``), Dataform (``dataform/NAME/``) and Secret
        Manager (``secrets/NAME/VERSION``). Only its owner may enter it, and one emulator at a time uses it.
    :param token: clients must send it; empty for that of the data directory, which is made at its first start
    :param host: address to listen on. Notebooks run as the user who starts this: leave it on the loopback interface
    :param grpc_port: 0 for a free one, as for `rest_port` and `storage_port`
    :param max_concurrent: notebooks that run at once
    :param cleanup_delay: seconds between the end of a job and that of its operation
    :param can_cancel: if False, the cancel of an operation is answered UNIMPLEMENTED
    :param runs_notebooks: if False, no kernel is started: a job that has no script, see `Scripts`, fails
    :param makes_buckets: make a bucket when it is first named
    :param buckets: buckets to make
    :param uploads: (folder, ``gs://`` URI) pairs to upload at start
    :param secrets: (name, payload) pairs, each a version of a secret
    :param environment: names of variables of this process that notebooks see, beside those of `environment.ALLOWED`
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        token: str = "",
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        rest_port: int = 0,
        storage_port: int = 0,
        max_concurrent: int = 2,
        cleanup_delay: float = 5.0,
        can_cancel: bool = True,
        runs_notebooks: bool = True,
        makes_buckets: bool = False,
        buckets: Sequence[str] = (),
        uploads: Sequence[tuple[Path, str]] = (),
        secrets: Sequence[tuple[str, bytes]] = (),
        environment: Sequence[str] = (),
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._host = host
        self._ports = (grpc_port, rest_port, storage_port)
        self._max_concurrent, self._cleanup_delay, self._can_cancel = max_concurrent, cleanup_delay, can_cancel
        self._buckets, self._uploads, self._secrets = buckets, uploads, secrets
        self._environment, self._makes_buckets = environment, makes_buckets
        self._scripts = Scripts() if runs_notebooks else Scripts(otherwise=NOT_RUN)
        self._resources = ExitStack()
        self.token = token
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
        stack.enter_context(locked(self._data_dir))
        self.token = self.token or read_or_make_token(self._data_dir)
        secrets = Secrets(self._data_dir)
        for name, payload in self._secrets:
            secrets.add(name, payload)
        storage = Storage(self._host, storage_port, self._data_dir, self.token, makes_buckets=self._makes_buckets)
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
            environment=self._environment,
            scripts=self._scripts,
        )
        stack.callback(engine.stop)
        service, faults = NotebookService(store, engine, can_cancel=self._can_cancel), Faults()
        methods = Methods(service, Dataform(self._data_dir), secrets, faults)
        stack.callback(methods.stop)
        listen(self._host, grpc_port, "--grpc-port").close()  # gRPC's own error does not name the reason
        grpc_server = GrpcServer(self._host, grpc_port, methods, self.token)
        stack.callback(grpc_server.stop)
        app = make_app(methods, service, faults, self._scripts)
        rest = HttpServer(app, self._host, rest_port, self.token, "--rest-port")
        stack.callback(rest.stop)
        client_host = reachable(self._host)
        client_host = f"[{client_host}]" if ":" in client_host else client_host
        self.grpc_address = f"{client_host}:{grpc_server.port}"
        self.rest_url = f"http://{client_host}:{rest.port}/{self.token}"
        self.storage_url = storage.url
        engine.additions["SECRET_MANAGER_EMULATOR_HOST"] = self.rest_url
        engine.start()  # not before `additions` has the addresses

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which the provider, and Google's Cloud Storage client, find the emulator."""
        connection = {
            "conn_type": "google_cloud_platform",
            "extra": {"project": PROJECT, "is_anonymous": True},
        }
        return {
            "NBJOB_EMULATOR_HOST": self.grpc_address,
            "NBJOB_EMULATOR_TOKEN": self.token,
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(connection),
        }
