"""Where gRPC is led to, without a connection to it."""

from __future__ import annotations

import pytest


class Dialled(BaseException):  # which the hook does not take for an error of a client
    """A channel was about to be opened."""


class Channels:
    """The targets that gRPC was given; none of them is connected to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.with_credentials: list[str] = []
        self.plaintext: list[str] = []
        monkeypatch.setattr("grpc.secure_channel", lambda target, *_, **__: self._dial(self.with_credentials, target))
        monkeypatch.setattr("grpc.insecure_channel", lambda target, *_, **__: self._dial(self.plaintext, target))

    @property
    def targets(self) -> list[str]:
        return self.with_credentials + self.plaintext

    def _dial(self, targets: list[str], target: str) -> None:
        targets.append(target)
        raise Dialled(target)
