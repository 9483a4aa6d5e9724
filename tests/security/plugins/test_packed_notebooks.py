"""A notebook that is small in its bucket and huge when it is unpacked fills no memory of the API server."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from tests.security.plugins.site import QUERY, cell, notebook, printed, record_of
from tests.support.fake_service import OUTPUT

pytestmark = pytest.mark.test_all

MIB = 2**20
SMALL = json.dumps(notebook(cell("1", printed("kept")))).encode()
HUGE = json.dumps(notebook(cell("1", printed("kept")))).encode() + b" " * (300 * MIB)
PACKED = gzip.compress(HUGE, 1)
BOMBS = {
    "as Cloud Storage unpacks it": {"content": PACKED, "content_encoding": "gzip"},
    "packed by itself": {"content": PACKED},
    "in several members": {
        "content": b"".join(gzip.compress(b" " * MIB, 1) for _ in range(300)) + gzip.compress(SMALL),
        "content_encoding": "gzip",
    },
}


def put(site, **stored):
    site.job()
    site.google.storage.put(f"{OUTPUT}/{site.job_id()}/content.ipynb", **stored)
    site.task(record_of(site.name()))


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_unpacked_is_bounded(site, name):
    put(site, **BOMBS[name])
    tracemalloc.start()
    try:
        answers = [site.get(f"{path}?{QUERY}") for path in ("task", "notebook")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150 * MIB
    assert answers[0].status_code == 200
    assert answers[1].status_code in (404, 503)  # 503 if to refuse it took a busy machine over the 10 s of an answer
    assert "kept" not in answers[1].text
    assert "state" in answers[0].text


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_a_packed_notebook_of_usual_size_is_shown(site, encoding):
    put(site, content=gzip.compress(SMALL), content_encoding=encoding)
    assert "kept" in site.shown("notebook")
