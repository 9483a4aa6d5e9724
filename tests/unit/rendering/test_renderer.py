"""The process that renders: its limits, what it says when it cannot, and that it ends."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from airflow_provider_nbjob import rendering
from airflow_provider_nbjob.rendering import NotRendered, RendererMissing, render, renderer
from tests.support.pages import code, data, markdown, notebook
from tests.support.patience import patient, wait_until

TINY = json.dumps(notebook(markdown("# x"))).encode()


def children():
    return set(psutil.Process().children(recursive=True))


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_notebook_is_rendered():
    page = render(TINY, theme="dark", failing_cell=1, timeout=patient(60)).decode()
    assert page.startswith('<!doctype html>\n<html lang="en" data-theme="dark">')
    assert 'id="cell-1" class="nbjob-cell nbjob-failing"' in page
    assert render(gzip.compress(TINY), theme="light", timeout=patient(60))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The notebook is empty."),
        (b"<html>", "It is no notebook: it is not JSON."),
        (b"\xff\xfe\xfa", "It is no notebook: it is not JSON."),
        (b"[]", "It is no notebook: its JSON is no object."),
        (b"{}", "It is no notebook: it has no list of cells."),
        (b'{"cells": {}}', "It is no notebook: it has no list of cells."),
        (b'{"nbformat": 3, "worksheets": []}', "It is of notebook format 3; format 4 is shown here."),
        (b'{"nbformat": "<b>", "cells": []}', "It is of notebook format that is no number; format 4 is shown here."),
        (b"[" * 200_000, "The notebook is nested too deep."),
        (b"\x1f\x8bx", "Its gzip compression is broken."),
        (gzip.compress(bytes(rendering.NOTEBOOK_MAX_BYTES + 2)), "The notebook has more than 32 MiB."),
        (bytes(rendering.NOTEBOOK_MAX_BYTES + 1), "The notebook has 32 MiB; up to 32 MiB are shown here."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_notebook_is_refused_with_the_reason(content, reason):
    with pytest.raises(NotRendered) as refused:
        render(content, theme="light", timeout=patient(60))
    assert str(refused.value) == reason


@pytest.fixture
def instead(monkeypatch):
    """Run a script in the renderer's place."""

    def run(script):
        monkeypatch.setattr(renderer, "_command", lambda *_: [sys.executable, "-c", script])

    return run


def test_when_time_is_up_the_renderer_and_all_that_it_started_are_killed(instead, tmp_path, monkeypatch):
    pids = tmp_path / "pids"
    instead(
        "import os, subprocess, time\n"
        "started = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pids) + '.partial'!r}, 'w').write(f'{{os.getpid()}} {{started.pid}}')\n"
        f"os.replace({str(pids) + '.partial'!r}, {str(pids)!r})\n"
        "time.sleep(600)"
    )

    class Started(subprocess.Popen):
        """A process whose time counts only from when it has started the other."""

        def communicate(self, *arguments, **options):
            wait_until(pids.exists, timeout=20, what="the renderer's own process", interval=0.02)
            return super().communicate(*arguments, **options)

    monkeypatch.setattr(renderer, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": Started}))
    begun = time.monotonic()
    with pytest.raises(NotRendered, match=r"Rendering the notebook took longer than 1 s\."):
        render(TINY, theme="light", timeout=1)
    assert time.monotonic() - begun < patient(10)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    wait_until(lambda: all(map(is_gone, started)), timeout=5, what=f"the end of {started}", interval=0.05)


def test_a_notebook_that_takes_too_long_ends_in_time():
    long = notebook(code(data(text_html="<b>x</b>" * 1_000_000)))  # its process does not even start in 0.3 s
    before, begun = children(), time.monotonic()  # an emulator of other tests may be among them
    with pytest.raises(NotRendered):
        render(json.dumps(long).encode(), theme="light", timeout=0.3)
    assert time.monotonic() - begun < patient(15)
    assert children() - before == set()


def test_the_renderer_limits_its_memory_and_time():
    script = (
        "import json, resource, sys, io\n"
        "from airflow_provider_nbjob.rendering import render_notebook as r\n"
        "sys.argv[1:] = [json.dumps({'theme': 'light', 'failing_cell': None, 'cpu_seconds': 7})]\n"
        "r.rendered = lambda *_: json.dumps([resource.getrlimit(k)[0] for k in\n"
        "    (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_CORE)]).encode()\n"
        "r.main()"
    )
    run = subprocess.run([sys.executable, "-c", script], input=TINY, capture_output=True, check=True)
    assert json.loads(run.stdout) == [7, 1024 * 1024 * 1024, 0]


def test_memory_that_runs_out_is_said(monkeypatch):
    from airflow_provider_nbjob.rendering import render_notebook

    def greedy(*_):
        raise MemoryError

    monkeypatch.setattr(render_notebook, "rendered", greedy)
    monkeypatch.setattr(render_notebook, "_limit", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["x", '{"theme": "light", "failing_cell": null, "cpu_seconds": 1}'])
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(SystemExit, match="more than 1024 MiB of memory"):
        render_notebook.main()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "The renderer was ended by SIGSEGV"),
        ("raise SystemExit('oh')", "The renderer failed: oh"),
        ("import sys; print('w', file=sys.stderr); sys.exit('{\"not_rendered\": \"so\"}')", "^so$"),
        ("import sys; sys.stdout.write('x' * (48 * 1024 * 1024 + 1))", "The page would have more than 48 MiB"),
    ],
)
def test_a_renderer_that_dies_says_how(instead, script, reason):
    instead(script)
    with pytest.raises(NotRendered, match=reason):
        render(TINY, theme="light", timeout=patient(60))


def test_a_page_that_is_too_large_is_refused(monkeypatch):
    from airflow_provider_nbjob.rendering import render_notebook

    monkeypatch.setattr(render_notebook, "RENDERED_MAX_BYTES", 1000)
    with pytest.raises(render_notebook.Refused, match="The page would have more than"):
        render_notebook.rendered(TINY, "light", None)


def test_two_are_rendered_at_once_and_a_third_waits_no_longer_than_its_time(instead, tmp_path):
    go = tmp_path / "go"
    instead(
        "import os, time\n"
        f"open({str(tmp_path)!r} + f'/{{os.getpid()}}.begun', 'w').close()\n"
        f"end_time = time.monotonic() + {patient(60)}\n"
        f"while not os.path.exists({str(go)!r}) and time.monotonic() < end_time: time.sleep(0.02)\n"
        "print('x')"
    )
    pages = []
    threads = [
        threading.Thread(target=lambda: pages.append(render(TINY, theme="light", timeout=patient(60))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(list(tmp_path.glob("*.begun"))) == 2, timeout=20, what="both under way", interval=0.02)
    with pytest.raises(NotRendered, match=r"Other notebooks were being rendered for 0\.5 s"):
        render(TINY, theme="light", timeout=0.5)
    go.touch()
    for thread in threads:
        thread.join()
    assert pages == [b"x\n", b"x\n"]


@pytest.mark.parametrize("missing", ["nbconvert", "nh3"])
def test_without_the_extra_it_says_how_to_install_it(monkeypatch, missing):
    there = renderer.find_spec
    monkeypatch.setattr(renderer, "find_spec", lambda name: None if name == missing else there(name))
    with pytest.raises(RendererMissing, match=r"pip install 'airflow-provider-nbjob\[ui\]'"):
        render(TINY, theme="light", timeout=patient(60))


def test_the_renderer_gets_none_of_the_servers_secrets(instead, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    instead("import os; print(dict(os.environ))")
    assert b"FERNET" not in render(TINY, theme="light", timeout=patient(60))


def loaded_by(script):
    """What a script imports, beyond what Python starts with."""
    script = f"import sys\nbefore = set(sys.modules)\n{script}\nprint(*set(sys.modules) - before)"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, input=TINY, capture_output=True, check=True).stdout.decode().split()


def rooms(modules):
    return {name.partition(".")[0] for name in modules}


def test_who_renders_loads_neither_airflow_nor_google():
    modules = loaded_by(
        "from airflow_provider_nbjob.rendering import render_notebook\n"
        "assert render_notebook.rendered(sys.stdin.buffer.read(), 'light', None)"
    )
    assert "nbconvert" in modules
    assert rooms(modules) & {"airflow", "google", "grpc", "IPython"} == set()


def test_who_asks_loads_nothing_heavy():
    modules = loaded_by("import airflow_provider_nbjob.rendering")
    assert "airflow_provider_nbjob.rendering.renderer" in modules
    heavy = {"nbconvert", "nh3", "pygments", "mistune", "jinja2", "nbformat", "bs4", "airflow", "google"}
    assert rooms(modules) & heavy == set()


def test_only_the_package_is_needed_to_start_it(monkeypatch, tmp_path):
    """Whatever the current folder has, it is not imported from."""
    (tmp_path / "json.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(rendering.__file__).parents[2]))
    assert render(TINY, theme="light", timeout=patient(60))
