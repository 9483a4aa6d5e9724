"""The emulator's Cloud Storage as Google's client, gcsfs and google-apitools (gcloud) use it, over HTTP."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as google_storage
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator import storage as storage_module
from airflow_provider_nbjob.emulator import stored_object
from airflow_provider_nbjob.emulator.storage import Storage
from tests.support.patience import patient

TOKEN = "a-token-of-tests_0123456789"
CHUNK = 256 * 2**10  # the smallest that Google's client sends of a resumable upload


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    data_dir = tmp_path_factory.mktemp("storage")
    running = Storage("127.0.0.1", 0, data_dir, TOKEN)
    running.data_dir = data_dir  # type: ignore[attr-defined]
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(storage: Storage) -> Iterator[google_storage.Client]:
    """Google's client, led here as users are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        yield google_storage.Client(project="p", credentials=AnonymousCredentials())


@pytest.fixture
def bucket(client: google_storage.Client, request: pytest.FixtureRequest) -> Iterator[google_storage.Bucket]:
    made = client.create_bucket(f"bucket-{abs(hash(request.node.name))}")
    yield made
    made.delete(force=True)


@pytest.fixture(scope="module")
def api(storage: Storage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=storage.url, timeout=patient(10)) as opened:
        yield opened


# --- buckets ---


def test_buckets_are_made_listed_and_deleted(client: google_storage.Client) -> None:
    for name in ("made-1", "made-2", "other"):
        assert client.create_bucket(name).time_created is not None
    assert [bucket.name for bucket in client.list_buckets(prefix="made-", page_size=1)] == ["made-1", "made-2"]
    with pytest.raises(Conflict):
        client.create_bucket("made-1")
    client.bucket("made-1").blob("a").upload_from_string(b"")
    with pytest.raises(Conflict):
        client.bucket("made-1").delete()
    for name in ("made-1", "made-2", "other"):
        client.bucket(name).delete(force=True)
        assert client.lookup_bucket(name) is None


@pytest.mark.parametrize("name", ["A", "ab", "-abc", "a/b", "..", ".nbjob", "a" * 300, "é" * 3])
def test_a_bucket_with_another_name_is_refused(api: httpx.Client, name: str) -> None:
    answer = api.post("/storage/v1/b?project=p", json={"name": name})
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (400, "invalid")


def test_who_has_the_token_has_all_permissions(client: google_storage.Client, bucket: google_storage.Bucket) -> None:
    asked = ["storage.objects.get", "storage.objects.create", "storage.buckets.setIamPolicy"]
    assert sorted(bucket.test_iam_permissions(asked)) == sorted(asked)
    for none in ([], ["storage.objects.fly"], ["iam.serviceAccounts.actAs"]):
        with pytest.raises(BadRequest):
            bucket.test_iam_permissions(none)
    with pytest.raises(NotFound):
        client.bucket("no-such-bucket").test_iam_permissions(asked)


# --- uploads ---


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
@pytest.mark.parametrize("chunk_size", [None, CHUNK])
def test_an_upload_is_read_back(bucket: google_storage.Bucket, size: int, chunk_size: int | None) -> None:
    """Without a chunk size the client sends a multipart upload, with one a resumable one."""
    content = os.urandom(size)
    blob = bucket.blob("folder/é n.bin", chunk_size=chunk_size)
    blob.metadata = {"key": "value"}
    blob.cache_control = "no-store"
    blob.upload_from_string(content, content_type="text/x")
    assert blob.download_as_bytes() == content
    found = bucket.get_blob("folder/é n.bin")
    assert (found.size, found.content_type, found.metadata, found.cache_control) == (
        *(size, "text/x"),
        *({"key": "value"}, "no-store"),
    )
    assert (found.generation, found.metageneration, found.md5_hash) == (blob.generation, 1, blob.md5_hash)


def test_a_stream_of_unknown_size_is_uploaded(bucket: google_storage.Bucket) -> None:
    content = os.urandom(2 * CHUNK + 5)
    with bucket.blob("streamed").open("wb", chunk_size=CHUNK) as stream:
        stream.write(content)
    with bucket.blob("streamed").open("rb", chunk_size=CHUNK) as stream:
        assert stream.read() == content


def begin(api: httpx.Client, bucket: str, name: str, **query: str) -> str:
    """Begin a resumable upload; where its content goes."""
    query = {"uploadType": "resumable", "name": name, **query}
    answer = api.post(f"/upload/storage/v1/b/{bucket}/o", params=query, json={"contentType": "text/x"})
    return answer.raise_for_status().headers["Location"]


def test_an_upload_that_broke_off_is_resumed(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    where = begin(api, bucket.name, "resumed")
    question = {"Content-Range": "bytes */10"}
    assert "Range" not in api.put(where, headers=question).headers
    for position, content in ((0, b"0123"), (4, b"456")):
        end = position + len(content) - 1
        sent = api.put(where, content=content, headers={"Content-Range": f"bytes {position}-{end}/10"})
        assert (sent.status_code, sent.headers["Range"]) == (308, f"bytes=0-{end}")
    asked = api.put(where, headers=question)
    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-6")
    assert bucket.get_blob("resumed") is None
    done = api.post(where, content=b"56789", headers={"Content-Range": "bytes 5-9/10"})  # 5 and 6 once more
    assert (done.status_code, done.json()["size"], done.json()["contentType"]) == (200, "10", "text/x")
    assert bucket.blob("resumed").download_as_bytes() == b"0123456789"
    again = api.put(where, headers=question)
    assert (again.status_code, again.json()["generation"]) == (200, done.json()["generation"])


@pytest.mark.parametrize(
    ("content_range", "status"),
    [("bytes 5-6/10", 400), ("bytes 0-0/10", 400), ("bytes x-y/10", 400), ("bytes 0-1/1", 400), ("0-1/2", 400)],
)
def test_a_wrong_piece_of_an_upload_is_refused(
    api: httpx.Client, bucket: google_storage.Bucket, content_range: str, status: int
) -> None:
    where = begin(api, bucket.name, "wrong")
    assert api.put(where, content=b"01", headers={"Content-Range": content_range}).status_code == status
    assert bucket.get_blob("wrong") is None


def test_an_upload_is_cancelled_or_unknown(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    where = begin(api, bucket.name, "cancelled")
    assert api.delete(where).status_code == 499
    for each in (where, f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&upload_id=unknown"):
        assert api.put(each, content=b"x").status_code == 404


def test_content_with_another_checksum_is_refused(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    where = begin(api, bucket.name, "damaged")
    assert api.put(where, content=b"x", headers={"X-Goog-Hash": "crc32c=AAAAAA=="}).status_code == 400
    assert bucket.get_blob("damaged") is None


def test_what_is_not_as_expected_is_not_replaced(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    blob = bucket.blob("guarded")
    blob.upload_from_string(b"first", if_generation_match=0)
    for options in ({}, {"chunk_size": CHUNK}):
        with pytest.raises(PreconditionFailed):
            bucket.blob("guarded", **options).upload_from_string(b"second", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=1)
    where = begin(api, bucket.name, "late", ifGenerationMatch="0")
    bucket.blob("late").upload_from_string(b"earlier")
    assert api.put(where, content=b"x").status_code == 412
    assert (bucket.blob("guarded").download_as_bytes(), bucket.blob("late").download_as_bytes()) == (
        b"first",
        b"earlier",
    )


def test_an_object_that_is_too_large_is_refused(
    api: httpx.Client, bucket: google_storage.Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_object, "MAX_OBJECT_BYTES", CHUNK)
    bucket.blob("half").upload_from_string(bytes(CHUNK))
    content, upload = bytes(CHUNK + 1), f"/upload/storage/v1/b/{bucket.name}/o"
    head = b'--b\r\nContent-Type: application/json\r\n\r\n{"name": "x"}\r\n--b\r\n\r\n'
    kind = {"Content-Type": "multipart/related; boundary=b"}
    answers = [
        api.post(upload, params={"uploadType": "media", "name": "x"}, content=content),
        api.post(upload, params={"uploadType": "multipart"}, content=head + content + b"\r\n--b--", headers=kind),
        api.post(
            upload,
            params={"uploadType": "resumable", "name": "x"},
            headers={"X-Upload-Content-Length": str(CHUNK + 1)},
        ),
        api.put(begin(api, bucket.name, "x"), content=content),
        api.post(
            f"/storage/v1/b/{bucket.name}/o/x/compose", json={"sourceObjects": [{"name": "half"}, {"name": "half"}]}
        ),
    ]
    assert [answer.status_code for answer in answers] == [413] * 5
    assert [blob.name for blob in bucket.list_blobs()] == ["half"]
    left = storage.data_dir / "cloudstorage" / ".nbjob" / "uploads"
    assert sum(path.stat().st_size for path in left.iterdir()) <= CHUNK


def test_uploads_at_once_do_not_mix(bucket: google_storage.Bucket) -> None:
    contents = [bytes([number]) * (CHUNK + number) for number in range(8)]
    threads = [
        threading.Thread(target=bucket.blob(f"at-once/{n}", chunk_size=CHUNK).upload_from_string, args=(content,))
        for n, content in enumerate(contents)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(30))
    assert [bucket.blob(f"at-once/{n}").download_as_bytes() for n in range(8)] == contents


# --- downloads ---


def test_a_part_is_downloaded(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    blob = bucket.blob("a/b")
    blob.upload_from_string(b"0123456789")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    path = f"/storage/v1/b/{bucket.name}/o/a%2Fb?alt=media"
    part = api.get(path, headers={"Range": "bytes=-3"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"789", "bytes 7-9/10")
    beyond = api.get(path, headers={"Range": "bytes=10-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, 416)
    assert api.head(path).headers["Content-Length"] == "10"


def test_a_generation_is_read_or_not_found(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    blob = bucket.blob("g")
    blob.upload_from_string(b"old")
    old = blob.generation
    bucket.blob("g").upload_from_string(b"new")
    with pytest.raises(NotFound):
        bucket.blob("g", generation=old).download_as_bytes()
    live = bucket.get_blob("g").generation
    assert live > old
    assert bucket.blob("g", generation=live).download_as_bytes() == b"new"
    path = f"/storage/v1/b/{bucket.name}/o/g"
    assert api.get(path, params={"ifGenerationNotMatch": live}).status_code == 304
    assert api.get(path, params={"generation": "x"}).status_code == 400


def test_a_packed_object_is_served_as_stored_or_unpacked(api: httpx.Client, bucket: google_storage.Bucket) -> None:
    content = b"text " * 100_000
    blob = bucket.blob("packed")
    blob.content_encoding = "gzip"
    packed = gzip.compress(content)
    blob.upload_from_string(packed)
    assert blob.download_as_bytes() == content
    assert blob.download_as_bytes(raw_download=True) == packed
    plain = api.get(blob.media_link, headers={"Accept-Encoding": "identity", "Range": "bytes=0-3"})
    assert (plain.status_code, plain.content) == (200, content)
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["X-Goog-Stored-Content-Encoding"] == "gzip"


def test_links_lead_back_with_the_token(api: httpx.Client, bucket: google_storage.Bucket, storage: Storage) -> None:
    blob = bucket.blob("a b/ü")
    blob.upload_from_string(b"linked")
    assert blob.media_link.startswith(f"{storage.url}/download/storage/v1/b/")
    assert httpx.get(blob.media_link).content == b"linked"
    assert httpx.get(blob.self_link).json()["name"] == "a b/ü"
    plain = f"http://127.0.0.1:{storage.port}/storage/v1/b/{bucket.name}/o/{quote('a b/ü', safe='')}"
    found = httpx.get(plain, headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert TOKEN not in json.dumps(found)


# --- metadata, lists, copies ---


def test_metadata_is_changed_and_replaced(bucket: google_storage.Bucket) -> None:
    blob = bucket.blob("m")
    blob.upload_from_string(b"x", content_type="text/x")
    blob.metadata = {"a": "1", "b": "2"}
    blob.patch()
    blob.metadata = {"a": None, "c": "3"}
    blob.content_disposition = "inline; filename=\u00fc"
    blob.patch()
    blob.reload()
    assert (blob.metadata, blob.content_type, blob.metageneration) == ({"b": "2", "c": "3"}, "text/x", 3)
    assert bucket.blob("m").download_as_bytes() == b"x"
    blob.content_language = "de"
    blob.update()
    assert bucket.get_blob("m").content_language == "de"


def test_a_list_has_prefixes_and_pages(client: google_storage.Client, bucket: google_storage.Bucket) -> None:
    for name in ("a", "a/1", "a/2", "b/", "b/1", "c", "é"):
        bucket.blob(name).upload_from_string(b"")

    def listed(**options: Any) -> tuple[list[str], set[str]]:
        found = client.list_blobs(bucket, **options)
        return [blob.name for blob in found], found.prefixes

    assert listed(page_size=2) == (["a", "a/1", "a/2", "b/", "b/1", "c", "é"], set())
    assert listed(delimiter="/", page_size=1) == (["a", "c", "é"], {"a/", "b/"})
    assert listed(prefix="a/") == (["a/1", "a/2"], set())
    assert listed(prefix="b/", delimiter="/", include_trailing_delimiter=True) == (["b/", "b/1"], set())
    assert listed(start_offset="a/2", end_offset="c") == (["a/2", "b/", "b/1"], set())
    assert listed(max_results=2) == (["a", "a/1"], set())
    with pytest.raises(BadRequest):
        listed(match_glob="**")


def test_objects_are_composed_and_copied(bucket: google_storage.Bucket) -> None:
    for name in ("1", "2"):
        bucket.blob(name).upload_from_string(name * 3, content_type="text/x")
    composed = bucket.blob("composed")
    composed.content_type = "text/y"
    composed.compose([bucket.blob("1"), bucket.blob("2"), bucket.blob("1")])
    assert composed.download_as_bytes() == b"111222111"
    with pytest.raises(PreconditionFailed):
        composed.compose([bucket.blob("1")], if_source_generation_match=[1])
    copied = bucket.copy_blob(composed, bucket, "copies/é")
    assert (copied.download_as_bytes(), copied.content_type) == (b"111222111", "text/y")
    moved = bucket.rename_blob(copied, "moved")
    assert (moved.download_as_bytes(), bucket.get_blob("copies/é")) == (b"111222111", None)
    written = bucket.blob("written")
    assert written.rewrite(moved) == (None, 9, 9)
    with pytest.raises(NotFound):
        composed.compose([bucket.blob("missing")])


# --- other clients ---


def test_dbt_keeps_a_model_and_what_it_logs_below_it(bucket: google_storage.Bucket, storage: Storage) -> None:
    """dbt-bigquery uploads ``ds/model.py``; the job writes ``ds/model.py/logs/JOB/model.py``."""
    bucket.blob("ds/model.py").upload_from_string(b"the model")
    storage.write(f"gs://{bucket.name}/ds/model.py/logs/1/model.py", b"executed")
    assert storage.read(f"gs://{bucket.name}/ds/model.py") == b"the model"
    assert bucket.blob("ds/model.py/logs/1/model.py").download_as_bytes() == b"executed"
    assert [blob.name for blob in bucket.list_blobs(prefix="ds/model.py/logs/1/")] == ["ds/model.py/logs/1/model.py"]


def test_gcsfs_reads_and_writes(
    bucket: google_storage.Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcsfs is what pandas and dbt read ``gs://`` with; the Google provider depends on it."""
    # gcsfs 2026.10 asks Cloud Storage over gRPC and TLS what kind of bucket it is, for a minute, unless told not to.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from gcsfs import GCSFileSystem

    files = GCSFileSystem(token="anon", endpoint_url=storage.url, skip_instance_cache=True)
    content = os.urandom(3 * CHUNK)
    with files.open(f"gs://{bucket.name}/in/pieces", "wb", block_size=CHUNK) as stream:
        stream.write(content)
    with files.open(f"gs://{bucket.name}/in/pieces", "rb", block_size=CHUNK) as stream:
        stream.seek(CHUNK)
        assert stream.read() == content[CHUNK:]
    files.pipe(f"gs://{bucket.name}/in/one", b"\r\n--==0=\n")
    assert files.cat(f"gs://{bucket.name}/in/one") == b"\r\n--==0=\n"
    assert sorted(files.find(f"gs://{bucket.name}")) == [f"{bucket.name}/in/one", f"{bucket.name}/in/pieces"]
    files.cp(f"gs://{bucket.name}/in/one", f"gs://{bucket.name}/copied")
    files.rm(f"gs://{bucket.name}/in/one")
    assert not files.exists(f"gs://{bucket.name}/in/one")
    assert files.ls(f"gs://{bucket.name}", detail=False) == [f"{bucket.name}/copied", f"{bucket.name}/in"]


@pytest.mark.parametrize("prefix", ["", "/resumable"])
def test_gcloud_sends_the_token_in_a_header(storage: Storage, bucket: google_storage.Bucket, prefix: str) -> None:
    """google-apitools 0.5.35, which is in gcloud, drops the path of its endpoint from uploads: no token is left."""
    url = f"http://127.0.0.1:{storage.port}{prefix}/upload/storage/v1/b/{bucket.name}/o"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if prefix:
        metadata = {"name": "by/gcloud"}
        begun = httpx.post(url, params={"uploadType": "resumable"}, json=metadata, headers=headers)
        assert TOKEN not in begun.headers["Location"]
        done = httpx.put(begun.headers["Location"], content=b"x", headers=headers)
    else:
        body = (
            b'--==1==\nContent-Type: application/json\nMIME-Version: 1.0\n\n{"name": "by/gcloud"}\n--==1==\n'
            b"Content-Type: text/x\nMIME-Version: 1.0\nContent-Transfer-Encoding: binary\n\nx\n--==1==--"
        )
        kind = {"Content-Type": "multipart/related; boundary='==1=='"}
        done = httpx.post(url, params={"uploadType": "multipart"}, content=body, headers={**headers, **kind})
    assert done.status_code == 200
    assert bucket.blob("by/gcloud").download_as_bytes() == b"x"


# --- anything else ---


SEGMENTS = st.sampled_from(
    [*("storage", "v1", "b", "o", "upload", "download", "resumable", "fuzzed", "compose", "copyTo", "rewriteTo"), "%ff"]
)
QUERIES = st.dictionaries(
    st.sampled_from(
        [
            *("alt", "name", "uploadType", "upload_id", "prefix", "delimiter", "pageToken", "maxResults", "generation"),
            *("ifGenerationMatch", "startOffset", "endOffset", "project", "contentEncoding"),
        ]
    ),
    st.text(max_size=8) | st.sampled_from(["media", "multipart", "resumable", "-1", "0", "1" * 30, "\u0663", "/"]),
    max_size=4,
)
BODIES = st.binary(max_size=60) | st.sampled_from([b"{}", b'{"name": 1}', b'{"name": "fuzzed"}', b"[" * 5000])
HEADERS = st.dictionaries(
    st.sampled_from(["Range", "Content-Range", "Content-Type", "Content-Encoding", "X-Goog-Hash", "Accept-Encoding"]),
    st.sampled_from(
        [*("application/json", "multipart/related; boundary=x", "bytes=0-", "bytes 0-1/2", "bytes */*", "gzip", "=,=")]
    ),
    max_size=3,
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
    start=st.sampled_from(["/storage/v1/b", "/upload/storage/v1/b", "/download/storage/v1/b", ""]),
    segments=st.lists(SEGMENTS | st.text(min_size=1, max_size=5).filter(lambda t: t not in (".", "..")), max_size=5),
    query=QUERIES,
    body=BODIES,
    headers=HEADERS,
)
def test_any_request_has_an_answer(
    api: httpx.Client,
    method: str,
    start: str,
    segments: list[str],
    query: dict[str, str],
    body: bytes,
    headers: dict[str, str],
) -> None:
    path = "/".join([start, *(each if each == "%ff" else quote(each, safe="") for each in segments)])
    answer = api.request(method, path, params=query, content=io.BytesIO(body).read(), headers=headers)
    assert answer.status_code < 500
    if answer.status_code >= 400 and answer.status_code != 499 and method != "HEAD":
        assert answer.json()["error"]["code"] == answer.status_code


def test_a_folder_is_uploaded(storage: Storage, api: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "n.ipynb").write_text("{}")
    storage.upload(tmp_path, "gs://uploads/n/")
    items = api.get("/storage/v1/b/uploads/o").json()["items"]
    assert [(each["name"], each["contentType"]) for each in items] == [("n/sub/n.ipynb", "application/json")]


def test_names_that_no_object_can_have_are_left_out(
    storage: Storage, api: httpx.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_text("a")
    for name in (b"no\xffutf-8", b"line\nbreak"):
        (tmp_path / os.fsdecode(name)).write_text("b")
    storage.upload(tmp_path, "gs://left-out")
    assert [each["name"] for each in api.get("/storage/v1/b/left-out/o").json()["items"]] == ["a"]
    assert "Not uploaded from" in caplog.text


@pytest.mark.parametrize(("limit", "value"), [("MAX_UPLOAD_FILES", 2), ("MAX_UPLOAD_BYTES", 2)])
def test_a_folder_that_is_too_large_is_not_uploaded(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    for name in "abc":
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(storage_module, limit, value)
    with pytest.raises(OSError, match="upload a smaller folder"):
        storage.upload(tmp_path, "gs://too-large")
    assert not storage.has_bucket("too-large")


# --- many clients ---


@pytest.mark.test_all
def test_greedy_clients_leave_others_their_turn(
    api: httpx.Client, client: google_storage.Client, storage: Storage
) -> None:
    """Each does the most expensive thing of its kind again and again, while another one reads and writes."""
    bucket = client.create_bucket("greedy")
    bucket.blob("large").upload_from_string(os.urandom(16 * CHUNK))
    packed = bucket.blob("packed")
    packed.content_encoding = "gzip"
    packed.upload_from_string(gzip.compress(bytes(256 * CHUNK)))
    folder = storage.data_dir / "cloudstorage" / bucket.name / "many"
    folder.mkdir()
    for number in range(2000):
        (folder / str(number)).touch()
    here, stop = f"/storage/v1/b/{bucket.name}/o", threading.Event()
    sources = {"sourceObjects": [{"name": "large"}] * 32}
    upload = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=uploaded"
    greedy: list[Callable[[httpx.Client], object]] = [
        lambda client: client.get(here),
        lambda client: client.get(f"{here}?delimiter=0"),
        lambda client: client.post(f"{here}/composed/compose", json=sources),
        lambda client: client.post(f"{here}/large/rewriteTo/b/{bucket.name}/o/rewritten"),
        lambda client: client.get(f"{here}/packed?alt=media", headers={"Accept-Encoding": "identity"}),
        lambda client: client.get(f"{here}/large?alt=media"),
        lambda client: client.post(upload, content=bytes(16 * CHUNK)),
        lambda client: client.delete(f"/storage/v1/b/{bucket.name}"),
    ]

    def repeat(call: Callable[[httpx.Client], object]) -> None:
        with httpx.Client(base_url=storage.url, timeout=patient(60)) as opened:
            while not stop.is_set():
                call(opened)

    threads = [threading.Thread(target=repeat, args=(call,)) for call in greedy * 2]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            api.post(upload.replace("uploaded", "mine"), content=b"%d" % number, timeout=patient(1)).raise_for_status()
            assert api.get(f"{here}/mine?alt=media", timeout=patient(1)).content == b"%d" % number
    finally:
        stop.set()
        for thread in threads:
            thread.join(patient(60))
