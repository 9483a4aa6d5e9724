"""Hostile notebooks in a real browser: nothing runs, nothing is loaded, nothing leads away.

Each is opened in the frame that the UI shows it in, and alone by its address. The same notebooks, trusted, do what
they are meant to: else these tests would prove nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_provider_nbjob.rendering import DOCUMENT_HEADERS, SANDBOX, render
from tests.support.browser import chromium
from tests.support.patience import patient

pytestmark = pytest.mark.test_all

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks" / "hostile").glob("*.ipynb"))
SETTLING_MS = 400  # for what a notebook would do by and by
KEYS = 15  # more than there are things to reach by Tab in any of the documents
PAGE, DOCUMENT = "/page", "/document"


class Site:
    """A page with a frame, the document in it, and whatever else a browser may be made to ask for."""

    def __init__(self):
        self.document = b""
        self.headers: dict[str, str] = {}
        self.frame = ""
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def show(self, document: bytes, *, trusted: bool):
        self.document = document
        self.headers = {"Content-Type": "text/html; charset=utf-8"} if trusted else dict(DOCUMENT_HEADERS)
        sandbox = "" if trusted else f'sandbox="{SANDBOX}"'
        self.frame = f'<!doctype html><title>page</title><iframe {sandbox} src="{DOCUMENT}"></iframe>'
        self.asked.clear()

    def _handler(site):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append(self.path)
                is_document = self.path == DOCUMENT
                body = site.document if is_document else site.frame.encode() if self.path == PAGE else b""
                self.send_response(200 if body else 204)
                for name, value in (site.headers if is_document else {"Content-Type": "text/html"}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # a browser that a notebook has led elsewhere meanwhile
                    self.wfile.write(body)

            def do_POST(self):
                self.do_GET()

            def log_message(self, *args):
                pass

        return Handler


@dataclass
class Seen:
    """What a browser did with a document."""

    requests: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # popups, dialogs, downloads, messages of scripts


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site():
    started = Site()
    yield started
    started.close()


def opened(
    browser, site: Site, path: str, *, follows: bool = True, until: Callable[[Seen], object] | None = None
) -> Seen:
    """Open an address, follow what can be followed, and say what happened.

    :param until: waited for, with a bound
    """
    seen = Seen()
    context = browser.new_context(accept_downloads=False)
    context.set_default_timeout(patient(30) * 1000)
    page = context.new_page()
    elsewhere = seen.elsewhere
    context.on("request", lambda request: seen.requests.append(request.url))
    context.on("page", lambda popup: elsewhere.append(f"popup {popup.url}"))
    page.on("dialog", lambda dialog: (elsewhere.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("download", lambda download: elsewhere.append(f"download {download.url}"))
    page.on("console", lambda message: elsewhere.append(f"console {message.text}"))
    page.on("pageerror", lambda error: elsewhere.append(f"error {error}"))
    page.goto(f"{site.url}{path}")
    page.wait_for_timeout(SETTLING_MS)
    for _ in range(KEYS if follows else 0):  # by keyboard: a click from outside would need a script in the document
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    page.wait_for_timeout(SETTLING_MS if follows else 0)
    end_time = time.monotonic() + patient(10)
    while until and not until(seen) and time.monotonic() < end_time:
        page.wait_for_timeout(100)
        seen.titles = titles(page, site)
    seen.elsewhere = list(seen.elsewhere)  # asking for titles runs scripts of the test's own
    seen.titles = titles(page, site)
    seen.addresses = [frame.url for frame in page.frames]
    context.close()
    return seen


def titles(page, site: Site) -> list[str]:
    """Return the titles of the frames that loaded: others, blocked ones, never answer."""
    return [frame.title() for frame in page.frames if frame.url.startswith(site.url)]


def has_tripped(seen: Seen) -> bool:
    """Return whether a notebook did what it is meant to."""
    return any("leak" in url for url in requests_of(seen)) or "TRIPPED" in seen.titles


def requests_of(seen: Seen) -> list[str]:
    return [url for url in seen.requests if not url.startswith("data:") and not url.endswith("/favicon.ico")]


def trusting(path: Path) -> bytes:
    """Every text of a notebook as HTML, as a page has it that trusts notebooks."""

    def texts(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            yield "".join(value)
        elif isinstance(value, (list, dict)):
            for inner in value if isinstance(value, list) else value.values():
                yield from texts(inner)

    return b"<!doctype html>" + "\n".join(texts(json.loads(path.read_text()))).encode()


@cache
def rendered(path: Path) -> bytes:
    """A notebook as the UI shows it; some take long to render."""
    return render(path.read_bytes(), theme="light", failing_cell=1, timeout=patient(60))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("framed", [True, False], ids=["framed", "alone"])
def test_a_hostile_notebook_does_nothing(browser, site, path, framed):
    site.show(rendered(path), trusted=False)
    seen = opened(browser, site, PAGE if framed else DOCUMENT)
    expected = [PAGE, DOCUMENT] if framed else [DOCUMENT]
    assert requests_of(seen) == [site.url + each for each in expected]
    assert [asked for asked in site.asked if asked != "/favicon.ico"] == expected
    assert seen.elsewhere == []
    assert seen.titles == (["page", "Notebook"] if framed else ["Notebook"])
    assert [address.partition("#")[0] for address in seen.addresses] == [site.url + each for each in expected]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_trusted_it_does_what_it_is_meant_to(browser, site, path):
    site.show(trusting(path), trusted=True)
    assert has_tripped(opened(browser, site, DOCUMENT, follows=False, until=has_tripped))


def test_sanitizing_alone_is_enough(browser, site):
    """The second wall is not what holds: without policy and sandbox nothing happens either."""
    for path in NOTEBOOKS:
        site.show(rendered(path), trusted=True)
        seen = opened(browser, site, DOCUMENT)
        assert (path.stem, requests_of(seen), seen.titles) == (path.stem, [site.url + DOCUMENT], ["Notebook"])


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "alone"])
def test_policy_and_sandbox_alone_let_no_script_run(browser, site, framed):
    """The first wall is not what holds: a document that is not sanitized at all runs nothing, and loads nothing."""
    for path in NOTEBOOKS:
        site.show(trusting(path), trusted=False)
        seen = opened(browser, site, PAGE if framed else DOCUMENT, follows=False)
        assert "TRIPPED" not in seen.titles
        if path.stem != "frames":  # where a refresh navigates the frame itself, and only that
            assert [asked for asked in site.asked if "leak" in asked] == []
