"""Cloud Storage on a folder: the package gcp-storage-emulator, and the client of it that the engine uses.

Objects are plain files below `<data directory>/cloudstorage/<bucket>/`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

# The package reads the name of its folder when it is imported; its default is hidden.
os.environ.setdefault("STORAGE_DIR", "cloudstorage")

from gcp_storage_emulator.server import create_server
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from airflow_provider_nbjob.job import bucket_and_path


class Storage:
    """The Cloud Storage server, serving once it is constructed.

    :param port: 0 for a free one
    """

    def __init__(self, host: str, port: int, data_dir: Path, token: str) -> None:
        self.port = _free_port(host, port)
        self._server = create_server(host, self.port, data_dir=str(data_dir))
        self._server.start()
        self.url = f"http://{reachable(host)}:{self.port}"
        self._client = storage.Client(
            project="emulator", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.url}
        )

    def stop(self) -> None:
        """Stop serving."""
        self._server.stop()

    def create_bucket(self, name: str) -> None:
        """Make a bucket, unless there is one of the name."""
        if self._client.lookup_bucket(name) is None:
            self._client.create_bucket(name)

    def has_bucket(self, name: str) -> bool:
        """Whether there is a bucket of the name."""
        return self._client.lookup_bucket(name) is not None

    def read(self, uri: str, generation: str = "") -> bytes:
        """The content of an object.

        :param generation: of the object, empty for the newest
        :raises NotFound: where there is no such bucket, object or generation
        """
        bucket, name = bucket_and_path(uri)
        blob = self._client.bucket(bucket).get_blob(name)
        if blob is None or (generation and str(blob.generation) != generation):
            which = f"{uri}#{generation}" if generation else uri
            raise NotFound(f"No such object: {which}")
        return bytes(blob.download_as_bytes())

    def write(self, uri: str, content: bytes) -> None:
        """Write an object, replacing the one that is there."""
        bucket, name = bucket_and_path(uri)
        content_type = "application/json" if name.endswith(".ipynb") else "application/octet-stream"
        self._client.bucket(bucket).blob(name).upload_from_string(content, content_type=content_type)

    def upload(self, folder: Path, uri: str) -> None:
        """Write the files of a folder below a URI, and make the bucket where there is none."""
        self.create_bucket(bucket_and_path(uri)[0])
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
            self.write(f"{uri.rstrip('/')}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104


def _free_port(host: str, port: int) -> int:
    """Refuse a port that is taken: the package would wait for ever for a server that could not start."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return int(listener.getsockname()[1])
