"""Leave the process to the next test as it was before one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MASKERS = ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")


@contextmanager
def as_it_was() -> Iterator[None]:
    """Take back what a test does: the emulator's `main` handles signals, a task has Airflow mask texts."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mode = os.umask(0o077)
    os.umask(mode)
    masked = {name: (set(masker.patterns), masker.replacer) for name, masker in maskers()}
    try:
        yield
    finally:
        os.umask(mode)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, masker in maskers():
            masker.patterns, masker.replacer = masked.get(name, (set(), None))


def maskers() -> Iterator[tuple[str, Any]]:
    """Yield those of Airflow's maskers that are in use, by the names of their modules."""
    for name in MASKERS:
        if name in sys.modules:
            yield name, sys.modules[name]._secrets_masker()
