"""A fake service in a process of its own, which does what it is told; see `grpc_service.obey`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


class Service:
    """A fake service in a process of its own, which obeys as `grpc_service.obey` does.

    :param module: the module that is run, and its arguments
    """

    def __init__(self, *module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = self._answer()

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return f"127.0.0.1:{self.told['port']}"

    def __call__(self, do: str, **order: Any) -> dict[str, Any]:
        print(json.dumps({"do": do, **order}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
