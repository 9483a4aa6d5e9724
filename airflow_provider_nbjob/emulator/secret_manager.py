"""Emulate the part of Secret Manager that notebooks need: versions of secrets are files below the data directory.

A version is the file ``secrets/SECRET/NUMBER``. All projects have the same secrets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core.exceptions import InvalidArgument, NotFound
from google.cloud.secretmanager_v1.types import AccessSecretVersionResponse
from google.protobuf.message import Message

from airflow_provider_nbjob.emulator.data_dir import make_private, make_private_file, read_regular

PAYLOAD_MAX = 64 * 2**10  # bytes; the service's own limit
SECRET = re.compile(r"[A-Za-z0-9_-]{1,255}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_NAME = re.compile(
    r"projects/(?P<project>[^/]{1,100})/secrets/(?P<secret>[A-Za-z0-9_-]{1,255})/versions/(?P<version>latest|[0-9]{1,18})"
)


class Secrets:
    """The secrets of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "secrets"

    def add(self, secret: str, payload: bytes) -> None:
        """Add a version to a secret, unless its latest one has the same payload.

        :param secret: matches `SECRET`
        :param payload: at most `PAYLOAD_MAX` bytes
        """
        folder = self._folder / secret
        make_private(self._folder)
        make_private(folder)
        latest = self._latest(folder)
        if latest and self._read(folder / str(latest)) == payload:
            return
        path = folder / str(latest + 1)
        make_private_file(path)
        path.write_bytes(payload)

    def access(self, request: Any) -> Message:
        """Serve AccessSecretVersion.

        :raises InvalidArgument: if the name is not that of a version
        :raises NotFound: if there is no such version
        """
        match = _NAME.fullmatch(request.name)
        if match is None:
            raise InvalidArgument(f"{request.name!r} is not of the form projects/*/secrets/*/versions/*.")
        folder = self._folder / match["secret"]
        version = self._latest(folder) if match["version"] == "latest" else int(match["version"])
        payload = self._read(folder / str(version))
        if payload is None:
            raise NotFound(f"Secret Version [{request.name}] not found.")
        name = f"projects/{match['project']}/secrets/{match['secret']}/versions/{version}"
        data = {"data": payload, "data_crc32c": google_crc32c.value(payload)}
        message: Message = AccessSecretVersionResponse.pb(AccessSecretVersionResponse(name=name, payload=data))
        return message

    @staticmethod
    def _latest(folder: Path) -> int:
        """Return the highest number of a version, 0 if there is none."""
        try:
            names = os.listdir(folder)
        except OSError:
            return 0
        return max((int(name) for name in names if _VERSION.fullmatch(name)), default=0)

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return read_regular(path, PAYLOAD_MAX)
        except OSError:
            return None
