"""Rendered notebooks in memory: bounded, the unused go first, threads may share it."""

from __future__ import annotations

import random
import threading

from airflow_provider_nbjob.rendering import RenderingCache


def test_what_was_put_is_there():
    cache = RenderingCache()
    assert cache.get("a") is None
    cache.put(("job", "dark"), b"x")
    assert cache.get(("job", "dark")) == b"x"
    assert cache.get(("job", "light")) is None


def test_the_one_that_is_unused_for_longest_goes():
    cache = RenderingCache(max_bytes=30)
    for key in "abc":
        cache.put(key, b"0123456789")
    assert cache.get("a")
    cache.put("d", b"0123456789")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_one_in_place_of_another_counts_once():
    cache = RenderingCache(max_bytes=30)
    for _ in range(10):
        cache.put("a", b"0123456789")
    cache.put("b", b"01234567890123456789")
    assert cache.get("a")
    assert cache.get("b")


def test_what_is_larger_than_all_is_not_kept_nor_drives_others_out():
    cache = RenderingCache(max_bytes=30)
    cache.put("a", b"0123456789")
    cache.put("b", bytes(31))
    assert cache.get("a")
    assert cache.get("b") is None
    cache.put("a", bytes(31))
    assert cache.get("a") is None


def test_threads_share_it_and_the_bound_holds():
    cache, failed = RenderingCache(max_bytes=1000), []

    def use(seed):
        numbers = random.Random(seed)
        for _ in range(2000):
            key = numbers.randrange(50)
            document = cache.get(key)
            if document is not None and document != bytes([key]) * (key + 1):
                failed.append(key)
            cache.put(key, bytes([key]) * (key + 1))

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [cache.get(key) or b"" for key in range(50)]
    assert failed == []
    assert 500 < sum(map(len, kept)) <= 1000
