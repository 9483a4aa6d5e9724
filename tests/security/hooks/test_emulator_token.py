"""The provider sends the emulator's token to the emulator and to this machine only."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from airflow_provider_nbjob.hooks.clients import Endpoint, _plaintext_channel
from airflow_provider_nbjob.hooks.emulator_token import is_loopback
from tests.support.patience import patient

TOKEN = "a-token-of-tests_0123456789"


class Listener(grpc.GenericRpcHandler):
    """A server of somebody else, who notes what a client sends."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []
        self.port = 0

    def service(self, details: Any) -> Any:
        self.metadata.append(dict(details.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[made])
    made.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made
    server.stop(None)


@pytest.fixture
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBJOB_EMULATOR_TOKEN", TOKEN)
    monkeypatch.delenv("NBJOB_EMULATOR_HOST", raising=False)


def sent_to(listener: Listener, address: str) -> str | None:
    """The authorization that a call to an address carries."""
    with _plaintext_channel(Endpoint(address, True)) as channel:
        call = channel.unary_unary("/s/m")
        assert call(b"request", timeout=patient(10), metadata=[("other", "kept")], wait_for_ready=True) == b"request"
    metadata = listener.metadata.pop()
    assert metadata["other"] == "kept"
    return metadata.get("authorization")


@pytest.mark.usefixtures("_token")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_the_token_is_sent_to_this_machine(listener: Listener, host: str) -> None:
    assert sent_to(listener, f"{host}:{listener.port}") == f"Bearer {TOKEN}"


@pytest.mark.usefixtures("_token")
def test_the_token_is_sent_to_the_emulator_wherever_it_is(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"ipv4:127.0.0.1:{listener.port}"  # no loopback address by its looks
    assert sent_to(listener, address) is None
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", address)
    assert sent_to(listener, address) == f"Bearer {TOKEN}"


@pytest.mark.parametrize("value", [None, "", " "])
def test_nothing_is_sent_without_a_token(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("NBJOB_EMULATOR_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("NBJOB_EMULATOR_TOKEN", value)
    assert sent_to(listener, f"127.0.0.1:{listener.port}") is None


@pytest.mark.usefixtures("_token")
def test_a_channel_sends_the_token_of_the_day(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    with _plaintext_channel(Endpoint(f"127.0.0.1:{listener.port}", True)) as channel:
        call = channel.unary_unary("/s/m")
        for token in (TOKEN, "another-token-of-tests"):
            monkeypatch.setenv("NBJOB_EMULATOR_TOKEN", token)
            call(b"", timeout=patient(10))
            assert listener.metadata.pop()["authorization"] == f"Bearer {token}"


HERE = ["127.0.0.1", "127.9.9.9:1", "localhost:80", "[::1]:8960", "[0:0::1]:1"]
ELSEWHERE = [
    *("", ":80", "evil.com:80", "127.0.0.1.evil.com:80", "localhost.evil.com", "127.0.0.1.", "localhost.:1"),
    *("127.1:1", "127.0.0.01:1", "128.0.0.1:1", "0.0.0.0:80", "127.0.0.1@evil.com", "127.0.0.1:80@evil.com:1"),
    *("127.0.0.1:1,evil.com:1", "dns:localhost:80", "ipv4:127.0.0.1:80", "unix:/tmp/x", "//evil/localhost"),
    *("::1", "[::1", "[127.0.0.1]:1", "[::ffff:127.0.0.1]:1", "[::]:1", "[fe80::1]", "localhost:x"),
    *("127.0.0.1:80\n", " 127.0.0.1", "127.0.0.\u0661:1", "localh\u043est:1"),
]


@pytest.mark.parametrize(("address", "expected"), [(a, True) for a in HERE] + [(a, False) for a in ELSEWHERE])
def test_an_address_is_this_machine_only_by_its_letters(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
