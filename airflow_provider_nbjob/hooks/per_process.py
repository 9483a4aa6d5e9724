"""Keep API clients for the life of a process.

Making a client costs a credentials look-up, a TLS handshake and a channel, so those that agree in connection,
impersonation chain and endpoint share one.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_nbjob.hooks.google_compat import connection_field, forget_credentials
from airflow_provider_nbjob.hooks.permissions import impersonated

if TYPE_CHECKING:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

T = TypeVar("T")

CLIENTS_MAX = 64  # of one kind; the least recently used one is dropped

# Google's clients read these when they are made.
_VARIABLES = ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN")


@dataclass
class _Kept(Generic[T]):
    """A client, and the source of its credentials: see `_made_of`.

    :param lock: held while the client is made, which may take a minute. Only callers of the same client wait. A signal
        handler may stop a job in the midst of that, in the same thread
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    made_of: Any = None
    client: T | None = None


class PerProcess(Generic[T]):
    """A function that makes a client for a hook, and returns the same one for the same connection.

    A connection or a key file that was changed, and a process that was forked, gets a new one.

    :param make: makes a client for a hook and further arguments; clients of other arguments are other clients
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: OrderedDict[tuple[Any, ...], _Kept[T]] = OrderedDict()
        self._lock = threading.RLock()

    def __call__(self, hook: GoogleBaseHook, *args: Any) -> T:
        """Return the client for a hook's connection, making it if there is none."""
        key = self._key(hook, *args)
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            while len(self._kept) > CLIENTS_MAX:
                self._kept.popitem(last=False)
        with kept.lock:
            made_of = _made_of(hook)
            if kept.client is None or kept.made_of != made_of:
                if kept.client is not None:
                    forget_credentials(hook)  # this hook may have read the file as it was before
                kept.client, kept.made_of = self._make(hook, *args), made_of
            return kept.client

    def forget(self, hook: GoogleBaseHook, *args: Any) -> None:
        """Have the next call make a new one, with new credentials."""
        forget_credentials(hook)
        with self._lock:
            self._kept.pop(self._key(hook, *args), None)

    @staticmethod
    def _key(hook: GoogleBaseHook, *args: Any) -> tuple[Any, ...]:
        return (
            os.getpid(),
            hook.gcp_conn_id,
            impersonated(hook),
            getattr(hook, "quota_project_id", None),  # of later versions of the Google provider
            *(os.environ.get(name) for name in _VARIABLES),
            *args,
        )


def _made_of(hook: GoogleBaseHook) -> Any:
    """Return the source of a client's credentials: the connection, and the state of the key files that it names."""
    paths = (connection_field(hook, "key_path"), os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
    return dict(hook.extras), [_file_state(path) for path in paths]


def _file_state(path: Any) -> tuple[int, int, int] | None:
    """Return numbers that change when a file is replaced or written; None if it cannot be read."""
    try:
        status = os.stat(path)
    except (OSError, TypeError, ValueError):  # no such file, no path at all
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
