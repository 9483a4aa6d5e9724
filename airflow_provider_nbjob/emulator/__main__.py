"""`python -m airflow_provider_nbjob.emulator`: serve until it is told to stop."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import shlex
import signal
import sys
import threading
from pathlib import Path

from airflow_provider_nbjob.emulator.server import Emulator


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("gcp_storage_emulator").setLevel(logging.WARNING)
    if not is_loopback(options.host):
        print(
            f"WARNING: listening on {options.host}: whoever reaches it runs code on this machine as its user.",
            file=sys.stderr,
            flush=True,
        )
    emulator = Emulator(
        options.data_dir,
        host=options.host,
        grpc_port=options.grpc_port,
        rest_port=options.rest_port,
        storage_port=options.storage_port,
        max_concurrent=options.max_concurrent,
        cleanup_delay=options.cleanup_delay,
        can_cancel=not options.no_operation_cancel,
        buckets=options.bucket,
        uploads=options.upload,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with emulator:
            for name, value in emulator.environment.items():
                print(f"export {name}={shlex.quote(value)}")
            print(f"rest {emulator.rest_url}")
            print("ready", flush=True)
            stop.wait()
    except OSError as error:
        print(f"The emulator could not start: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    result = argparse.ArgumentParser(
        prog="python -m airflow_provider_nbjob.emulator",
        description="NotebookService of the Vertex AI API on this machine, running notebooks for real.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = result.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; notebooks run as the user who starts this")
    add("--grpc-port", type=int, default=8960, help="for the Python client; 0 for a free one")
    add("--rest-port", type=int, default=8961, help="for gcloud and curl; 0 for a free one")
    add("--storage-port", type=int, default=8962, help="for Cloud Storage; 0 for a free one")
    add("--data-dir", type=Path, default=Path("nbjob-emulator-data"), help="holds jobs, buckets and repositories")
    add("--max-concurrent", type=positive, default=2, help="notebooks that run at once")
    add("--cleanup-delay", type=float, default=5.0, help="seconds between a job's end and that of its operation")
    add("--no-operation-cancel", action="store_true", help="answer UNIMPLEMENTED to operations.cancel")
    add("--bucket", action="append", default=[], help="make a bucket; may be repeated")
    add(
        "--upload",
        action="append",
        default=[],
        type=upload,
        metavar="DIR=gs://BUCKET/FOLDER",
        help="upload a folder, and make its bucket; may be repeated",
    )
    return result


def positive(text: str) -> int:
    """Read a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def upload(text: str) -> tuple[Path, str]:
    """Read ``DIR=gs://BUCKET/FOLDER``."""
    folder, _, uri = text.partition("=")
    if not uri.startswith("gs://") or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form DIR=gs://BUCKET/FOLDER, with a folder DIR")
    return Path(folder), uri


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
