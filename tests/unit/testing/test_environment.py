"""The environment that leads a test's process to the emulator."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest
import requests.utils

from airflow_provider_nbjob.testing import emulator

NOBODY = "http://127.0.0.1:9"  # no proxy, and nothing else, listens there


@pytest.mark.parametrize(
    "mine",
    [{}, {"NO_PROXY": "a.example"}, {"no_proxy": "b.example", "NO_PROXY": "a.example"}, {"no_grpc_proxy": "c.example"}],
    ids=str,
)
def test_no_request_to_the_emulator_goes_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mine: dict[str, str]
) -> None:
    for name in emulator.NO_PROXY:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"http_proxy": NOBODY, "https_proxy": NOBODY, **mine}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(emulator.NotebookEmulator, "_reset", lambda self: None)
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with emulator.NotebookEmulator(tmp_path).lead_here():
            assert not requests.utils.get_environ_proxies(f"http://127.0.0.1:{port}/b")
            assert not [value for value in mine.values() if value not in str(os.environ)]
            channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
            grpc.channel_ready_future(channel).result(10)
            channel.close()
    finally:
        server.stop(None)
    assert {name: os.environ[name] for name in emulator.NO_PROXY if name in os.environ} == mine
