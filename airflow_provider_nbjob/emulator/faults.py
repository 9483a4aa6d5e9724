"""Inject the faults that tests ask for, and count the calls."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, from_grpc_status
from grpc import StatusCode

T = TypeVar("T")

RPCS = (
    *("CreateNotebookExecutionJob", "GetNotebookExecutionJob", "ListNotebookExecutionJobs"),
    "GetNotebookRuntimeTemplate",
    *("DeleteNotebookExecutionJob", "GetOperation", "ListOperations", "DeleteOperation", "CancelOperation"),
    *("WaitOperation", "AccessSecretVersion"),
)
STANDING_MAX = 1_000  # faults


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


@dataclass
class Fault:
    """A fault that calls meet.

    :param rpc: one of `RPCS`, or ``"*"`` for all
    :param code: name of the google.rpc.Code that calls fail with; None: calls are only delayed
    :param times: number of calls that meet it; None: all calls until it is removed
    :param probability: that a call meets it, 0 to 1
    :param drop_response: perform the call, then fail it: the answer is lost
    :param delay: seconds before the call
    """

    rpc: str
    code: str | None = None
    times: int | None = None
    probability: float = 1.0
    drop_response: bool = False
    delay: float = 0.0

    @classmethod
    def from_json(cls, body: object) -> Fault:
        """Read a fault from a request's body.

        :raises InvalidArgument: with the name of the field that is wrong
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(body, Mapping) or set(body) - set(known):
            raise InvalidArgument(f"A fault is an object with the fields {', '.join(known)}; got {str(body)[:200]!r}.")
        fault = cls(**{"rpc": "", **body})
        rules = {
            "rpc": fault.rpc == "*" or fault.rpc in RPCS,
            "code": fault.code is None
            or (isinstance(fault.code, str) and fault.code in StatusCode.__members__ and fault.code != "OK"),
            "times": fault.times is None or (isinstance(fault.times, int) and _is_number(fault.times, 1, 10**9)),
            "probability": _is_number(fault.probability, 0, 1),
            "drop_response": isinstance(fault.drop_response, bool),
            "delay": _is_number(fault.delay, 0, 600),
        }
        for name, is_right in rules.items():
            if not is_right:
                raise InvalidArgument(f"{name}: {str(getattr(fault, name))[:200]!r} is not allowed.")
        return fault


class Faults:
    """The faults in effect, and the number of calls so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standing: list[Fault] = []
        self._calls: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        """Put a fault into effect.

        :raises InvalidArgument: if `STANDING_MAX` faults are in effect
        """
        with self._lock:
            if len(self._standing) >= STANDING_MAX:
                raise InvalidArgument(f"{STANDING_MAX} faults stand already.")
            self._standing.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._standing.clear()

    def standing(self) -> list[dict[str, Any]]:
        """Return the faults in effect, with the `times` that are left."""
        with self._lock:
            return [asdict(fault) for fault in self._standing]

    def calls(self) -> dict[str, int]:
        """Return how often each rpc was called, failed calls included."""
        with self._lock:
            return dict(self._calls)

    def reset_calls(self) -> None:
        """Set all counts of calls to zero."""
        with self._lock:
            self._calls.clear()

    async def perform(self, rpc: str, call: Callable[[], Awaitable[T]]) -> T:
        """Perform a call, unless it meets a fault. A delay occupies no thread.

        :raises GoogleAPICallError: with the fault's code
        """
        for fault in self._meeting(rpc):
            await asyncio.sleep(fault.delay)
            if fault.code is None:
                continue
            if fault.drop_response:
                with suppress(GoogleAPICallError):  # an error is an answer too, and is lost
                    await call()
            raise from_grpc_status(StatusCode[fault.code], f"Fault injected into {rpc}: {fault.code}.")
        return await call()

    def _meeting(self, rpc: str) -> list[Fault]:
        met = []
        with self._lock:
            self._calls[rpc] += 1
            for fault in self._standing:
                if fault.rpc not in ("*", rpc) or random.random() >= fault.probability:  # noqa: S311
                    continue
                met.append(fault)
                if fault.times is not None:
                    fault.times -= 1
                if fault.code is not None:
                    break  # the call fails with this fault, and uses up none of the later ones
            self._standing = [fault for fault in self._standing if fault.times != 0]
        return met
