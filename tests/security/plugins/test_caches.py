"""What was found out by one way to Google Cloud is not shown for another; and caches are bounded."""

from __future__ import annotations

import random
import threading

import pytest

from airflow_provider_nbjob.plugins.notebook_jobs.ttl_cache import TTLCache
from tests.security.plugins.site import QUERY, cell, notebook, printed, record_of
from tests.support.fake_service import OUTPUT

pytestmark = pytest.mark.test_all


@pytest.mark.parametrize(
    "other",
    [
        {"gcp_conn_id": "another"},
        {"impersonation_chain": ["reader@p.iam.gserviceaccount.com"]},
        {"impersonation_chain": "reader@p.iam.gserviceaccount.com"},
        {"api_endpoint": "http://127.0.0.1:2"},
        {"project_id": "q"},
    ],
)
def test_a_notebook_is_read_again_by_each_way(site, monkeypatch, other):
    """The bucket answers one way alone: what it said is not told to those who come by another."""
    connection = '{"conn_type": "google_cloud_platform", "extra": {"project": "p"}}'
    monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", connection)
    name = site.job(notebook=notebook(cell("1", printed("the-output"))))
    job_id = name.rpartition("/")[2]
    site.job(site.name(job_id, f"projects/{other.get('project_id', 'p')}/locations/us-central1"))
    site.task(record_of(name), fields={"notebook_execution_job_id": job_id})
    site.task(record_of(name), fields={"notebook_execution_job_id": job_id, **other}, map_index=1)
    assert "the-output" in site.shown("notebook")
    site.google.storage.fail("read", 403)
    first = site.get(f"notebook?{QUERY}")
    assert first.status_code == 200  # by the same way it is known
    answer = site.get(f"notebook?{QUERY}&map_index=1")
    assert answer.status_code == 503
    assert "the-output" not in answer.text
    assert "the-output" not in site.shown(query=f"{QUERY}&map_index=1")


@pytest.mark.parametrize("change", ["content", "theme", "record"])
def test_what_has_changed_is_shown_anew(site, change):
    site.job(notebook=notebook(cell("1", printed("before"))))
    site.task(record_of(site.name()))
    before = site.shown("notebook")
    if change == "content":
        site.job(notebook=notebook(cell("1", printed("after"))))
        assert "after" in site.shown("notebook")
    elif change == "theme":
        assert site.shown("notebook", query=f"{QUERY}&theme=dark") != before
    else:
        requests = len(site.google.storage.requests)
        assert site.shown("notebook") == before
        assert [one for one in site.google.storage.requests[requests:] if one.startswith("read")] == []


def test_a_cache_holds_no_more_bytes_than_it_may():
    cache: TTLCache[bytes] = TTLCache(max_bytes=30)
    for key in "abc":
        cache.put(key, b"0123456789", 10)
    assert cache.get("a")
    cache.put("d", b"0123456789", 10)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    cache.put("e", bytes(31), 31)
    assert cache.get("e") is None
    assert cache.get("a")
    cache.put("a", bytes(31), 31)
    assert cache.get("a") is None


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_cache_holds_no_more_values_than_it_may(size):
    cache: TTLCache[int] = TTLCache(max_bytes=10_000, max_items=20)
    for number in range(100):
        cache.put(number, number, size)
    assert sum(cache.get(number) is not None for number in range(100)) <= 20


def test_a_cache_forgets_what_is_old():
    cache: TTLCache[int] = TTLCache(max_bytes=100, seconds=0)
    cache.put("a", 1, 1)
    assert cache.get("a") is None


def test_threads_share_a_cache_and_its_bound_holds():
    cache: TTLCache[bytes] = TTLCache(max_bytes=1000)
    failed = []

    def use(seed):
        numbers = random.Random(seed)
        for _ in range(2000):
            key = numbers.randrange(50)
            document = cache.get(key)
            if document is not None and document != bytes([key]) * (key + 1):
                failed.append(key)
            cache.put(key, bytes([key]) * (key + 1), key + 1)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert 500 < sum(len(cache.get(key) or b"") for key in range(50)) <= 1000


def test_the_output_folder_is_that_of_the_job(site):
    """Two tasks with jobs of one id in two projects are two jobs."""
    site.job(notebook=notebook(cell("1", printed("of-p"))))
    other = site.name(parent="projects/q/locations/us-central1")
    site.job(other, gcs_output_uri=f"{OUTPUT}/q", notebook=notebook(cell("1", printed("of-q"))))
    job_id = other.rpartition("/")[2]
    for index, project in enumerate(("p", "q")):
        fields = {"project_id": project, "notebook_execution_job_id": job_id}
        site.task(record_of(site.name()), fields=fields, map_index=index)
    for index, own in enumerate(("of-p", "of-q")):
        page = site.shown("notebook", query=f"{QUERY}&map_index={index}")
        assert own in page
        assert ("of-p" in page) != ("of-q" in page)
