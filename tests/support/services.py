"""PostgreSQL and Redis from Debian's packages, on ports and in folders of their own, as an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from scripts.processes import free_port, stop
from tests.support.fixtures import DidNotStart
from tests.support.patience import patient, wait_until

USER = "nobody"  # whom they run as if the tests are run by root, as whom PostgreSQL does not start


class _Service:
    """A server and its folder, which is removed when the server is stopped for good."""

    name: str

    def __init__(self) -> None:
        self.port = free_port()
        # Not below the tests' own folder: another user may not be allowed to come that far.
        self.folder = Path(tempfile.mkdtemp(prefix=f"nbjob-{self.name}-"))
        self.user = USER if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(self.folder, self.user)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Any:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def prepare(self) -> None:
        """Make what the server needs before its first start."""

    def command(self) -> list[str]:
        """Return the command that starts the server in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether the server takes requests."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, and wait until it takes requests."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdout=output, stderr=output, start_new_session=True, **self._as_user()
            )
        try:
            wait_until(self._is_up, timeout=60, what=f"a {self.name} that answers")
        except AssertionError as error:
            raise DidNotStart(self.name, [log]) from error

    def _is_up(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.returncode}"
        return self.answers()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; by default connections are broken, and nothing is lost."""
        if self.process:
            stop(self.process, patient(30), how)
        self.process = None

    def run(self, *command: str | Path) -> str:
        """Run a command as the server's user; what it prints. Its exit status must be 0."""
        run = subprocess.run(list(map(str, command)), capture_output=True, text=True, **self._as_user())
        assert run.returncode == 0, f"{command[0]}: {run.stdout}{run.stderr}"
        return run.stdout

    def _as_user(self) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": self.folder, "env": {**os.environ, "HOME": str(self.folder)}}
        if os.getuid() == 0:
            entry = pwd.getpwnam(self.user)
            options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return options


class PostgreSQL(_Service):
    """A PostgreSQL of the newest version that is installed; SIGINT is its fast shutdown."""

    name = "postgresql"

    def __init__(self) -> None:
        super().__init__()
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        assert versions, "PostgreSQL is not installed; `make production` installs it"
        self.bin = versions[-1]

    def prepare(self) -> None:
        """Make the cluster."""
        self.run(self.bin / "initdb", "--pgdata", self.folder / "data", "--username", "airflow", "--auth", "trust")

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": 300,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options]

    def answers(self) -> bool:
        """Return whether the server takes connections."""
        asked = [str(self.bin / "pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def create_database(self, name: str) -> str:
        """Create a database, and return its URL for SQLAlchemy."""
        self.run(self.bin / "createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "airflow", name)
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/{name}"


class Redis(_Service):
    """A Redis that keeps what it has in a file, so that a restart loses nothing."""

    name = "redis"

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        options = {"bind": "127.0.0.1", "port": self.port, "dir": self.folder, "appendonly": "yes", "save": ""}
        return ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]

    def answers(self) -> bool:
        """Return whether the server takes commands."""
        asked = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), "ping"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "PONG"

    def url(self, database: int = 0) -> str:
        """Return the URL of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"
