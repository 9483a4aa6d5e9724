"""The environment that leads a test's process to the emulator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import requests.utils

from airflow_provider_nbjob.testing import emulator
from tests.support.patience import patient

NOBODY = "http://127.0.0.1:9"  # no proxy, and nothing else, listens there


def with_proxy(monkeypatch: pytest.MonkeyPatch, mine: dict[str, str]) -> None:
    """Have this process use a proxy that is not there, but for the hosts that some variables name."""
    for name in emulator.NO_PROXY:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"http_proxy": NOBODY, "https_proxy": NOBODY, **mine}.items():
        monkeypatch.setenv(name, value)


@contextmanager
def served() -> Iterator[int]:
    """Serve gRPC on a port of the loopback interface."""
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


def answers(port: int, seconds: float) -> bool:
    """Return whether a gRPC channel to a port is ready within some seconds."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(seconds)
        except grpc.FutureTimeoutError:
            return False
    return True


def test_grpc_reads_no_upper_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it does one day, the variables of lower case are not needed."""
    with served() as port:
        with_proxy(monkeypatch, {"NO_PROXY": "127.0.0.1"})
        assert not answers(port, 1)
        with_proxy(monkeypatch, {"no_proxy": "127.0.0.1"})
        assert answers(port, patient(10))


@pytest.mark.parametrize(
    "mine",
    [{}, {"NO_PROXY": "a.example"}, {"no_proxy": "b.example", "NO_PROXY": "a.example"}, {"no_grpc_proxy": "c.example"}],
    ids=str,
)
def test_no_request_to_the_emulator_goes_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mine: dict[str, str]
) -> None:
    with_proxy(monkeypatch, mine)
    monkeypatch.setattr(emulator.NotebookEmulator, "_reset", lambda self: None)
    with served() as port, emulator.NotebookEmulator(tmp_path).lead_here():
        assert not requests.utils.get_environ_proxies(f"http://127.0.0.1:{port}/b")
        assert not [value for value in mine.values() if value not in str(os.environ)]
        assert answers(port, patient(10))
    assert {name: os.environ[name] for name in emulator.NO_PROXY if name in os.environ} == mine
