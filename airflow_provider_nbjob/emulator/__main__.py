"""Run `python -m airflow_provider_nbjob.emulator`: serve until a signal ends it."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import logging
import math
import os
import re
import resource
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.api_core.exceptions import GoogleAPICallError

from airflow_provider_nbjob.emulator.guard import TOKEN
from airflow_provider_nbjob.exceptions import InvalidJob

if TYPE_CHECKING:
    from airflow_provider_nbjob.emulator.server import Emulator

# The imports above need no package of the extra `emulator`, so that `missing_packages` can name those that are missing.

TOKEN_VARIABLE = "NBJOB_EMULATOR_TOKEN"  # noqa: S105
# Modules of the packages of the extra `emulator`. The emulator itself imports neither ipykernel nor nbclient.
OF_KERNELS = ("ipykernel", "nbclient")
OF_EXTRA = (
    *("google.cloud.secretmanager_v1", "google_crc32c", "re2", *OF_KERNELS),
    *("psutil", "starlette", "uvicorn"),
)
NO_KERNELS = "--no-kernels"
EPILOG = """
Clients must send the token that is printed: gRPC clients as metadata 'authorization: Bearer TOKEN', which the provider
does with NBJOB_EMULATOR_TOKEN; HTTP clients as that header or, as in the printed URLs, before the path. Take REST from
the last line: curl $REST/v1/projects/emulator-project/locations/us-central1/notebookExecutionJobs. A body needs a
header: curl -H 'Content-Type: application/json' -d '{"rpc": "*", "code": "UNAVAILABLE", "times": 3}'
$REST/emulator/faults. For gcloud: export CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM=$REST/
"""
N = TypeVar("N", int, float)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    runs_notebooks = NO_KERNELS not in (sys.argv[1:] if arguments is None else arguments)
    if missing := missing_packages(with_kernels=runs_notebooks):
        print(
            f"The emulator could not start: {', '.join(missing)} cannot be imported. Install what it needs with:"
            " pip install 'airflow-provider-nbjob[emulator]'",
            file=sys.stderr,
        )
        return 1
    from airflow_provider_nbjob.emulator.server import Emulator

    options = parser().parse_args(arguments)
    try:
        chosen = options.token or token(os.environ.get(TOKEN_VARIABLE, "").strip() or None)
    except argparse.ArgumentTypeError as error:
        print(f"{TOKEN_VARIABLE}: {error}", file=sys.stderr)
        return 2
    os.umask(0o077)
    allow_open_files()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not is_loopback(options.host):
        print(
            f"WARNING: listening on {options.host}: whoever reaches it runs code on this machine as its user.",
            file=sys.stderr,
            flush=True,
        )
    emulator = Emulator(
        options.data_dir,
        token=chosen or "",
        host=options.host,
        grpc_port=options.grpc_port,
        rest_port=options.rest_port,
        storage_port=options.storage_port,
        max_concurrent=options.max_concurrent,
        cleanup_delay=options.cleanup_delay,
        can_cancel=not options.no_operation_cancel,
        runs_notebooks=not options.no_kernels,
        makes_buckets=options.make_buckets,
        buckets=options.bucket,
        uploads=options.upload,
        secrets=options.secret,
        environment=options.env,
    )
    if options.parent is not None:
        from airflow_provider_nbjob.emulator.processes import end_with_parent

        threading.Thread(target=end_with_parent, args=(options.parent,), daemon=True).start()
    return _serve(emulator)


def _serve(emulator: Emulator) -> int:
    """Serve until a signal comes, and return the exit status."""
    # A pipe, not an event: a signal may find this thread with an event's lock, for which its handler would then wait.
    signalled, signals = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(signals, b"."))
    try:
        with emulator:
            for name, value in emulator.environment.items():
                print(f"export {name}={shlex.quote(value)}")
            print(f"rest {emulator.rest_url}")
            print("ready", flush=True)
            os.read(signalled, 1)
    except (OSError, GoogleAPICallError, InvalidJob) as error:
        print(f"The emulator could not start: {error}", file=sys.stderr)
        return 1
    return 0


def missing_packages(*, with_kernels: bool = True) -> list[str]:
    """Return the modules of the extra `emulator` that are not installed.

    :param with_kernels: of those too that only a run of a notebook needs; default True
    """
    return [name for name in OF_EXTRA if (with_kernels or name not in OF_KERNELS) and not _is_installed(name)]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package above it cannot be imported, or has no specification
        return False


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m airflow_provider_nbjob.emulator",
        description="NotebookService of the Vertex AI API on this machine, running notebooks for real.",
        epilog=EPILOG,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = result.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; notebooks run as the user who starts this")
    add("--grpc-port", type=port, default=8960, help="for the Python client; 0 for a free one")
    add("--rest-port", type=port, default=8961, help="for gcloud and curl; 0 for a free one")
    add("--storage-port", type=port, default=8962, help="for Cloud Storage; 0 for a free one")
    add(
        "--data-dir",
        type=Path,
        default=Path("nbjob-emulator-data"),
        help="holds jobs, buckets and repositories; one emulator at a time uses it",
    )
    add(
        "--token",
        type=token,
        help=f"what clients must send; other users see it in the process list, so set {TOKEN_VARIABLE} rather;"
        " without either, one is made at random and kept in the data directory",
    )
    add("--max-concurrent", type=positive, default=2, help="notebooks that run at once")
    add("--cleanup-delay", type=seconds, default=5.0, help="seconds between a job's end and that of its operation")
    add(NO_KERNELS, action="store_true", help="run no notebook: jobs end as POST /emulator/scripts says, or fail")
    add("--parent", type=int, metavar="PID", help="end when this process, which started the emulator, has ended")
    add("--no-operation-cancel", action="store_true", help="answer UNIMPLEMENTED to operations.cancel")
    _add_contents(result)
    return result


def _add_contents(to: argparse.ArgumentParser) -> None:
    """Add the options that name what clients and notebooks find on the emulator; each may be repeated."""
    add = to.add_argument
    add("--bucket", action="append", default=[], help="make a bucket; may be repeated")
    add("--make-buckets", action="store_true", help="make each bucket when it is first named")
    add(
        "--upload",
        action="append",
        default=[],
        type=upload,
        metavar="DIR=gs://BUCKET/FOLDER",
        help="upload a folder, and make its bucket; hidden files and symbolic links are left out; may be repeated",
    )
    add(
        "--secret",
        action="append",
        default=[],
        type=secret,
        metavar="NAME=FILE",
        help="add a version to a secret that notebooks can read, of a file's content; may be repeated",
    )
    add(
        "--env",
        action="append",
        default=[],
        type=variable,
        metavar="NAME",
        help="let notebooks see a variable of this environment; they see PATH, HOME, the locale and a few others only;"
        " may be repeated",
    )


def positive(text: str) -> int:
    """Read a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _number(kind: type[N], text: str) -> N:
    """Read a number; the error has the words that argparse has for a type of its own."""
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid {kind.__name__} value: {text!r}") from None


def port(text: str) -> int:
    """Read the number of a port, or 0."""
    number = _number(int, text)
    if not 0 <= number < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return number


def seconds(text: str) -> float:
    """Read a number that is finite and not negative."""
    number = _number(float, text)
    if not math.isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, from 0 on")
    return number


def upload(text: str) -> tuple[Path, str]:
    """Read ``DIR=gs://BUCKET/FOLDER``."""
    folder, _, uri = text.partition("=")
    if not uri.startswith("gs://") or not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form DIR=gs://BUCKET/FOLDER, with a folder DIR")
    if os.path.islink(os.path.normpath(folder)):
        raise argparse.ArgumentTypeError(f"{folder!r} is a symbolic link, and none is followed: name the folder itself")
    return Path(folder), uri


def secret(text: str) -> tuple[str, bytes]:
    """Read ``NAME=FILE``, and the file."""
    from airflow_provider_nbjob.emulator.secret_manager import PAYLOAD_MAX, SECRET

    name, separator, path = text.partition("=")
    if not separator or not SECRET.fullmatch(name):
        raise argparse.ArgumentTypeError(f"{name!r} is not a secret's name, of A-Z a-z 0-9 _ -, before '=' and a file")
    try:
        with open(path, "rb") as file:
            payload = file.read(PAYLOAD_MAX + 1)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"the file of {name!r} cannot be read: {error}") from None
    if len(payload) > PAYLOAD_MAX:
        raise argparse.ArgumentTypeError(f"the file of {name!r} has more than {PAYLOAD_MAX} bytes")
    return name, payload


def variable(text: str) -> str:
    """Read the name of an environment variable that is set."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise argparse.ArgumentTypeError(f"{text.partition('=')[0]!r} is not the name of a variable, and nothing else")
    if text not in os.environ:
        raise argparse.ArgumentTypeError(f"the variable {text} is not set")
    return text


def token(text: str | None) -> str | None:
    """Read a token; an error does not show it."""
    if text is not None and not TOKEN.fullmatch(text):
        raise argparse.ArgumentTypeError("a token is made of 16 to 128 characters of A-Z a-z 0-9 _ -")
    return text


def allow_open_files() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 2**16 if hard == resource.RLIM_INFINITY else min(hard, 2**16)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # sys.exit would wait for the threads of requests that are under way
