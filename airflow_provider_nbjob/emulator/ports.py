"""Listen on a port, with an error that names the option that helps."""

from __future__ import annotations

import errno
import socket


def listen(host: str, port: int, option: str) -> socket.socket:
    """Return a socket that listens.

    :param port: 0 for a free one
    :param option: of the command line, which chooses another port
    :raises OSError: with the reason, and the option that helps
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is in use: choose another one with {option}, or {option} 0 for a free one"
        elif error.errno == errno.EACCES:
            reason = f"port {port} needs more rights: choose one above 1023 with {option}, or {option} 0 for a free one"
        elif error.errno == errno.EADDRNOTAVAIL or isinstance(error.__context__, socket.gaierror):
            reason = f"{host} is no address of this machine: choose another one with --host"
        else:
            reason = f"cannot listen on port {port} of {host} ({error}): see {option} and --host"
        raise OSError(reason) from None
