"""Buckets and objects on disk: any legal name, generations, lists, files that somebody puts there, and restarts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator import stored_object
from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.stored_object import Conditions, Stored, after_prefix, name_fault, plain_parts

BUCKET = "bucket-1"
PARTS = st.sampled_from(
    ["a", "b", "A", "é", "e\u0301", "", ".", "..", ".hidden", "con", "x" * 255, "x" * 256, "\\", "\0"]
)
LEGAL = (st.lists(PARTS, min_size=1, max_size=4).map("/".join) | st.text(min_size=1, max_size=40)).filter(
    lambda name: name_fault(name) is None
)
ANY_NAME = st.text(st.characters(), max_size=30) | st.text(st.characters(categories=["Cs"]), max_size=3)


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    with opened(tmp_path / "cloudstorage") as objects:
        objects.create_bucket(BUCKET)
        yield objects


@contextmanager
def opened(folder: Path) -> Iterator[Objects]:
    objects = Objects(folder)
    try:
        yield objects
    finally:
        objects.close()


def put(objects: Objects, name: str, content: bytes = b"content", **options: Any) -> Stored:
    draft = objects.draft()
    try:
        draft.write(content)
        return objects.put(BUCKET, name, draft, {"contentType": "text/plain"}, **options)
    finally:
        draft.discard()


def read(objects: Objects, name: str) -> bytes:
    with objects.open(BUCKET, name)[1] as file:
        return file.read()


def names(objects: Objects, **options: Any) -> list[str]:
    objects.refresh(BUCKET)
    return [stored.name for stored in objects.page(BUCKET, **options).items]


# --- names ---


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Objects, Path]]:
    """One store for many examples, and the folder around it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "bystander").write_text("untouched")
    with opened(outside / "data" / "cloudstorage") as objects:
        objects.create_bucket(BUCKET)
        yield objects, outside


@given(contents=st.dictionaries(LEGAL, st.binary(max_size=10), min_size=1, max_size=6))
def test_any_legal_names_hold_their_contents_inside_the_folder(
    shared: tuple[Objects, Path], contents: dict[str, bytes]
) -> None:
    objects, outside = shared
    for name, content in contents.items():
        put(objects, name, content)
    assert {name: read(objects, name) for name in contents} == contents
    assert names(objects) == sorted(contents)
    for name in contents:
        objects.delete(BUCKET, name)
    assert names(objects) == []
    assert sorted(path.name for path in outside.iterdir()) == ["bystander", "data"]
    assert [path.name for path in (outside / "data").iterdir()] == ["cloudstorage"]
    assert sorted(path.name for path in (outside / "data" / "cloudstorage").iterdir()) == [".nbjob", BUCKET]
    assert not list((outside / "data" / "cloudstorage" / BUCKET).iterdir())
    assert not list((outside / "data" / "cloudstorage" / ".nbjob" / "objects").iterdir())


@given(bucket=ANY_NAME, name=ANY_NAME)
def test_any_text_is_a_name_or_refused(shared: tuple[Objects, Path], bucket: str, name: str) -> None:
    objects, _ = shared
    with pytest.raises(NotFound):
        objects.stat(bucket, name)
    with pytest.raises(NotFound):
        objects.open(BUCKET, name)
    if name_fault(name) is None:
        put(objects, name)
        assert names(objects) == [name]
        objects.delete(BUCKET, name)
    else:
        with pytest.raises(BadRequest):
            put(objects, name)
    with suppress(BadRequest):
        objects.create_bucket(bucket)
        assert objects.has_bucket(bucket)
        objects.delete_bucket(bucket)


@pytest.mark.parametrize("name", ["runs/nbjob-1/daily_report.ipynb", "a", "Über uns/a b.txt", "a/" * 31 + "a"])
def test_an_ordinary_name_is_a_plain_file(objects: Objects, tmp_path: Path, name: str) -> None:
    put(objects, name)
    assert (tmp_path / "cloudstorage" / BUCKET / name).read_bytes() == b"content"


@pytest.mark.parametrize(
    "name", ["", "a/", "/a", "a//b", ".a", "a/.b", "..", "a\\b", "a\nb", "x" * 256, "a/" * 32 + "a"]
)
def test_another_name_is_none(name: str) -> None:
    assert plain_parts(name) is None


def test_a_plain_file_comes_back_once_nothing_is_in_its_way(objects: Objects, tmp_path: Path) -> None:
    plain = tmp_path / "cloudstorage" / BUCKET / "a"
    put(objects, "a/b", b"below")
    put(objects, "a", b"hidden")
    assert plain.is_dir()
    objects.delete(BUCKET, "a/b")
    assert not plain.exists()
    put(objects, "a", b"plain")
    assert plain.read_bytes() == b"plain"
    assert not list((tmp_path / "cloudstorage" / ".nbjob" / "objects").iterdir())


def test_a_file_system_without_case_keeps_two_objects(objects: Objects, tmp_path: Path) -> None:
    """The file of ``A`` is that of ``a``, as a hard link is here."""
    put(objects, "a", b"small")
    os.link(tmp_path / "cloudstorage" / BUCKET / "a", tmp_path / "cloudstorage" / BUCKET / "A")
    with pytest.raises(NotFound):
        objects.stat(BUCKET, "A")
    put(objects, "A", b"large")
    assert (read(objects, "a"), read(objects, "A")) == (b"small", b"large")
    assert names(objects) == ["A", "a"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a\nb", "a\rb", "x" * 1025, "é" * 513, "\ud800", ".well-known/acme-challenge/x"]
)
def test_an_illegal_name_is_refused(objects: Objects, name: str) -> None:
    with pytest.raises(BadRequest):
        put(objects, name)


# --- generations and conditions ---


def test_each_write_has_a_new_generation(objects: Objects) -> None:
    generations = [put(objects, name).generation for name in ("a", "a", "b", "a")]
    assert generations == sorted(set(generations))
    with pytest.raises(NotFound):
        objects.stat(BUCKET, "a", generations[0])


@pytest.mark.parametrize("field", ["generation_match", "generation_not_match", "metageneration_match"])
def test_a_condition_that_does_not_hold_changes_nothing(objects: Objects, field: str) -> None:
    before = put(objects, "a", b"before")
    value = before.generation if field == "generation_not_match" else 0
    conditions = Conditions(**{field: value})
    with pytest.raises(PreconditionFailed):
        put(objects, "a", b"after", conditions=conditions)
    with pytest.raises(PreconditionFailed):
        objects.delete(BUCKET, "a", conditions=conditions)
    with pytest.raises(PreconditionFailed):
        objects.change_fields(BUCKET, "a", lambda fields: {}, conditions=conditions)
    assert objects.stat(BUCKET, "a") == before
    assert read(objects, "a") == b"before"


def test_an_open_object_stays_what_it_is(objects: Objects) -> None:
    before = put(objects, "a", b"before")
    stored, file = objects.open(BUCKET, "a")
    with file:
        put(objects, "a", b"after")
        assert (stored, file.read()) == (before, b"before")


def test_a_draft_that_is_too_large_is_refused(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_object, "MAX_OBJECT_BYTES", 10)
    with pytest.raises(Exception, match="at most 10 bytes"):
        put(objects, "a", b"x" * 11)
    put(objects, "a", b"x" * 10)


# --- lists ---


def all_pages(objects: Objects, limit: int, **options: Any) -> tuple[list[str], list[str]]:
    items: list[str] = []
    prefixes: list[str] = []
    start = ""
    for _ in range(1000):
        page = objects.page(BUCKET, limit=limit, **{**options, "start": max(start, options["start"])})
        assert len(page) <= limit
        items += [stored.name for stored in page.items]
        prefixes += page.prefixes
        if page.next_name is None:
            return items, prefixes
        start = page.next_name
    raise AssertionError("the pages do not end")


SHORT = st.text("ab/\U0010ffff\ud7ff", min_size=1, max_size=6).filter(lambda name: name_fault(name) is None)


@given(
    existing=st.sets(SHORT, max_size=12),
    prefix=st.text("ab/", max_size=3),
    delimiter=st.sampled_from(["", "/", "b", "a/"]),
    limit=st.integers(1, 5),
    start=st.text("ab/", max_size=2),
    end=st.text("ab/", max_size=2),
)
def test_pages_together_are_the_list(
    shared: tuple[Objects, Path], existing: set[str], prefix: str, delimiter: str, limit: int, start: str, end: str
) -> None:
    wanted = sorted(n for n in existing if n.startswith(prefix) and n >= start and (not end or n < end))
    below = [n for n in wanted if delimiter and delimiter in n[len(prefix) :]]
    heads = {prefix + n[len(prefix) :].partition(delimiter)[0] + delimiter for n in below}
    objects, _ = shared
    for name in existing:
        put(objects, name)
    found = all_pages(objects, limit, prefix=prefix, delimiter=delimiter, start=start, end=end)
    for name in existing:
        objects.delete(BUCKET, name)
    assert found == ([n for n in wanted if n not in below], sorted(heads))


@given(st.text(), st.text())
def test_a_text_is_before_the_end_of_a_prefix_if_it_has_it(prefix: str, text: str) -> None:
    end = after_prefix(prefix)
    assert end is None or (f"{prefix}{text}".encode() < end.encode())
    if end is not None and text.encode() >= prefix.encode() and text.encode() < end.encode():
        assert text.startswith(prefix)


# --- what is done by hand ---


def test_a_file_that_somebody_puts_there_is_an_object(objects: Objects, tmp_path: Path) -> None:
    folder = tmp_path / "cloudstorage" / BUCKET
    (folder / "runs").mkdir()
    (folder / "runs" / "by-hand.json").write_text("{}")
    (tmp_path / "cloudstorage" / "by-hand").mkdir()
    assert names(objects) == ["runs/by-hand.json"]
    stored = objects.stat(BUCKET, "runs/by-hand.json")
    assert (stored.size, stored.fields, stored.md5) == (2, {"contentType": "application/json"}, "")
    assert list(objects.buckets()) == [BUCKET, "by-hand"]
    (folder / "runs" / "by-hand.json").write_text("{ }")
    assert objects.stat(BUCKET, "runs/by-hand.json").generation > stored.generation
    (folder / "runs" / "by-hand.json").unlink()
    assert names(objects) == []


def test_a_bucket_is_deleted_only_if_it_is_empty(objects: Objects, tmp_path: Path) -> None:
    folder = tmp_path / "cloudstorage" / BUCKET
    (folder / "empty" / "folder").mkdir(parents=True)
    (folder / ".by-hand").write_text("no object")
    with pytest.raises(Conflict):
        objects.delete_bucket(BUCKET)
    (folder / ".by-hand").unlink()
    put(objects, "a")
    with pytest.raises(Conflict):
        objects.delete_bucket(BUCKET)
    objects.delete(BUCKET, "a")
    objects.delete_bucket(BUCKET)
    with pytest.raises(NotFound):
        put(objects, "a")
    assert not folder.exists()


def test_a_bucket_that_somebody_removed_takes_its_objects_along(objects: Objects, tmp_path: Path) -> None:
    put(objects, "plain")
    put(objects, "../hidden")
    shutil.rmtree(tmp_path / "cloudstorage" / BUCKET)
    assert not objects.has_bucket(BUCKET)
    objects.create_bucket(BUCKET)
    assert names(objects) == []


# --- processes ---


def test_a_restart_keeps_objects_and_generations(tmp_path: Path) -> None:
    with opened(tmp_path / "cloudstorage") as objects:
        objects.create_bucket(BUCKET)
        stored = [put(objects, name) for name in ("a", "a/b", "../c")]
        objects.draft().write(b"left")
    with opened(tmp_path / "cloudstorage") as objects:
        assert [objects.stat(BUCKET, each.name) for each in stored] == stored
        assert put(objects, "new").generation > max(each.generation for each in stored)
        assert not list((tmp_path / "cloudstorage" / ".nbjob" / "uploads").iterdir())


def test_metadata_that_is_lost_costs_no_content(tmp_path: Path) -> None:
    with opened(tmp_path / "cloudstorage") as objects:
        objects.create_bucket(BUCKET)
        put(objects, "runs/a")
    shutil.rmtree(tmp_path / "cloudstorage" / ".nbjob")
    with opened(tmp_path / "cloudstorage") as objects:
        assert (names(objects), read(objects, "runs/a")) == (["runs/a"], b"content")
