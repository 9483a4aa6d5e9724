"""A signal ends the emulator, whenever it comes."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext

import pytest

from airflow_provider_nbjob.emulator import __main__ as command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_it_waits_for_one_ends_it(capsys, number):
    class Emulator(nullcontext):
        environment = {"NBJOB_EMULATOR_HOST": "127.0.0.1:1"}

        @property
        def rest_url(self):
            os.kill(os.getpid(), number)
            return "http://127.0.0.1:2"

    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert command._serve(Emulator()) == 0
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert capsys.readouterr().out.endswith("ready\n")
