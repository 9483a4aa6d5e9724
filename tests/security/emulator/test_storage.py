"""The emulator's Cloud Storage: what no client, object name, link or compressed body makes it do.

The tests start the emulator as its users do, so that they also run on versions with another storage server.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from google.api_core.exceptions import BadRequest, NotFound

from airflow_provider_nbjob.emulator.server import Emulator
from airflow_provider_nbjob.emulator.storage import Storage
from tests.support.files import below, contents
from tests.support.patience import patient

BUCKET = "attacked"
TOKEN = "a-token-of-tests_0123456789"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage") / "data"


@pytest.fixture(scope="module")
def url(data_dir: Path) -> Iterator[str]:
    """The URL of a Cloud Storage with one bucket."""
    with Emulator(data_dir, buckets=[BUCKET]) as emulator:
        yield emulator.storage_url


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """What the emulator's engine reads sources of jobs from."""
    storage = Storage("127.0.0.1", 0, tmp_path_factory.mktemp("engine"), TOKEN)
    storage.create_bucket(BUCKET)
    yield storage
    storage.stop()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=patient(5)) as opened:
        yield opened


def put(client: httpx.Client, name: str, content: bytes, **headers: str) -> httpx.Response:
    """Upload an object in the simplest way."""
    query = {"uploadType": "media", "name": name}
    return client.post(f"/upload/storage/v1/b/{BUCKET}/o", params=query, content=content, headers=headers)


def get(client: httpx.Client, name: str) -> httpx.Response:
    return client.get(f"/download/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media")


def names(client: httpx.Client, bucket: str = BUCKET) -> list[str]:
    answer = client.get(f"/storage/v1/b/{bucket}/o").raise_for_status().json()
    return [stored["name"] for stored in answer.get("items", [])]


# --- who may send requests ---


FORGED = [
    ("GET", "/wipe"),
    ("GET", "/wipe?keep-buckets=true"),
    ("DELETE", f"/storage/v1/b/{BUCKET}/o/kept"),
    ("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=kept"),
    ("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&name=forged"),
    ("POST", f"/storage/v1/b/{BUCKET}/o/kept/copyTo/b/{BUCKET}/o/forged"),
    ("GET", f"/storage/v1/b/{BUCKET}/o"),
    ("GET", f"/download/storage/v1/b/{BUCKET}/o/kept?alt=media"),
    ("GET", f"/{BUCKET}/kept"),
    ("POST", "/batch/storage/v1"),
]


@pytest.mark.parametrize(("method", "path"), FORGED)
def test_a_request_without_the_token_is_refused(client: httpx.Client, url: str, method: str, path: str) -> None:
    put(client, "kept", b"of the user").raise_for_status()
    parts = urlsplit(url)
    forged = httpx.request(
        method, f"{parts.scheme}://{parts.netloc}{path}", content=b"forged", headers={"Content-Type": "text/plain"}
    )
    assert forged.status_code in (401, 403)
    assert get(client, "kept").content == b"of the user"
    assert "forged" not in names(client)


@pytest.mark.parametrize("path", ["/wipe", "/wipe?keep-buckets=true", "/", "/_internal", "/storage/v1/wipe"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_are_no_routes_but_those_of_the_api(client: httpx.Client, method: str, path: str) -> None:
    put(client, "kept", b"of the user").raise_for_status()
    answer = client.request(method, path)
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["code"] == answer.status_code
    assert "kept" in names(client)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_a_form_can_send_makes_no_bucket(client: httpx.Client, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post("/storage/v1/b", content=b'{"name": "forged-bucket"}', headers=headers)
    assert answer.status_code == 415
    assert client.get("/storage/v1/b/forged-bucket").status_code == 404


# --- what clients may not do to others ---


def connection(url: str, request: str = "") -> socket.socket:
    """Open a connection, and send the beginning of a request."""
    parts = urlsplit(url)
    opened = socket.create_connection((parts.hostname, parts.port), timeout=patient(5))
    opened.sendall(request.format(path=parts.path, host=parts.netloc).replace("\n", "\r\n").encode())
    return opened


SLOW = {
    "silent": "",
    "half a line": "GET {path}/storage/v1/b",
    "half a header": "GET {path}/storage/v1/b HTTP/1.1\nHost: {host}\nX-",
    "no body": "POST {path}/storage/v1/b HTTP/1.1\nHost: {host}\nContent-Type: application/json\nContent-Length: 9\n\n",
    "slow upload": f"POST {{path}}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=slow HTTP/1.1\nHost: {{host}}\n"
    "Content-Length: 1000000\n\nx",
    "slow multipart": f"POST {{path}}/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart HTTP/1.1\nHost: {{host}}\n"
    "Content-Type: multipart/related; boundary=b\nContent-Length: 1000000\n\n--b\n",
    "slow reader": f"GET {{path}}/download/storage/v1/b/{BUCKET}/o/large?alt=media HTTP/1.1\nHost: {{host}}\n\n",
    "error, then more": "POST {path}/upload/storage/v1/b/none/o?uploadType=media&name=x HTTP/1.1\nHost: {host}\n"
    "Content-Length: 1000000\n\nx",
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_client_does_not_block_another(client: httpx.Client, url: str, kind: str) -> None:
    put(client, "large", bytes(16 * MEGABYTE)).raise_for_status()
    with ExitStack() as slow:
        for _ in range(40):
            slow.enter_context(connection(url, SLOW[kind]))
        put(client, "small", b"answered").raise_for_status()
        assert get(client, "small").content == b"answered"
        assert "small" in names(client)


def packed_media(packed: bytes) -> dict[str, Any]:
    return {"params": {"uploadType": "media", "name": "bomb"}, "content": packed}


def packed_multipart(packed: bytes) -> dict[str, Any]:
    head = b'--b\r\nContent-Type: application/json\r\n\r\n{"name": "bomb"}\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
    body = gzip.compress(head + gzip.decompress(packed) + b"\r\n--b--\r\n")
    headers = {"Content-Type": "multipart/related; boundary=b"}
    return {"params": {"uploadType": "multipart"}, "content": body, "headers": headers}


def packed_metadata(packed: bytes) -> dict[str, Any]:
    body = gzip.compress(json.dumps({"name": "bomb", "metadata": {"x": "0" * 20 * MEGABYTE}}).encode())
    headers = {"Content-Type": "application/json"}
    return {"params": {"uploadType": "resumable"}, "content": body, "headers": headers}


@pytest.mark.parametrize("make", [packed_media, packed_multipart, packed_metadata])
def test_a_packed_body_is_not_unpacked(
    client: httpx.Client, data_dir: Path, make: Callable[[bytes], dict[str, Any]]
) -> None:
    request = make(gzip.compress(bytes(20 * MEGABYTE)))
    request["headers"] = {**request.get("headers", {}), "Content-Encoding": "gzip"}
    answer = client.post(f"/upload/storage/v1/b/{BUCKET}/o", **request)
    if answer.status_code == 200:
        assert int(answer.json()["size"]) == len(request["content"])
        assert answer.json()["contentEncoding"] == "gzip"
    else:
        assert answer.status_code == 400
    bombs = [path for path in below(data_dir) if "bomb" in path.name]
    assert not [path for path, content in contents(bombs).items() if len(content) > MEGABYTE]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (gzip.compress(bytes(101 * MEGABYTE)), "more than"),
        (gzip.compress(bytes(MEGABYTE)) * 101, "more than"),
        (gzip.compress(b"content")[:-4], "early"),
        (b"\x1f\x8b", "early"),
        (b"not packed", "cannot be read"),
    ],
    ids=["one member", "many members", "cut", "begun", "not packed"],
)
def test_a_source_that_unpacks_to_much_or_is_damaged_is_refused(storage: Storage, content: bytes, fault: str) -> None:
    with httpx.Client(base_url=storage.url, timeout=patient(5)) as client:
        put(client, "bomb", content, **{"Content-Encoding": "gzip"}).raise_for_status()
    with pytest.raises(BadRequest, match=fault):
        storage.read(f"gs://{BUCKET}/bomb")


# --- names ---


HOSTILE = [
    *(
        "../x",
        "../../x",
        "a/../../x",
        "/etc/passwd",
        "//x",
        "a//b",
        "a/./b",
        "./a",
        "a/",
        "...",
        " ",
        "..\\x",
        "a\\..\\b",
    ),
    *("con", "nul.txt", "CLOCK$", "~", "~root/x", "$HOME", "%2e%2e%2fx", "..%2fx", "a\0b", "a\tb", "\u202e", "e\u0301"),
    *(".nbjob/objects.sqlite", ".nbjob", ".git/config", "a/.hidden", "x" * 1024, "/".join("x" * 500), "é" * 512),
    *("\U0001f600/\U0001f600", "\ufeff", "?generation=1", "#1", "a?b#c", "o/compose", "x/copyTo/b/y/o/z"),
]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:40])
def test_any_legal_name_is_an_object_inside_the_data_directory(client: httpx.Client, data_dir: Path, name: str) -> None:
    before = {path for path in below(data_dir.parent) if "cloudstorage" not in path.parts}
    assert put(client, name, name.encode()).raise_for_status().json()["name"] == name
    assert get(client, name).content == name.encode()
    assert name in names(client)
    assert client.delete(f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}").status_code == 204
    assert get(client, name).status_code == 404
    assert {path for path in below(data_dir.parent) if "cloudstorage" not in path.parts} == before


@pytest.mark.parametrize(
    "uri",
    [
        *("gs://b/../x", "gs://../x", "gs://../../etc/passwd", "gs://./x", "gs:///x", "gs://", "gs://.nbjob/lock", ""),
        *(
            "gs://attacked/../x",
            "gs://attacked/..",
            "gs://attacked/",
            "gs://attacked/a\nb",
            "gs://attacked/" + "x" * 9999,
        ),
        *("gs://attacked/\ud800", "gs://\ud800/x", "gs://attacked/a/../../../x", "/etc/passwd", "gs://%2e%2e/x"),
    ],
    ids=lambda uri: ascii(uri)[:40],
)
def test_what_cannot_be_read_is_not_found_at_once(storage: Storage, uri: str) -> None:
    with pytest.raises(NotFound):
        storage.read(uri)
    with pytest.raises(NotFound):
        storage.read(uri, "1" * 19)
    assert storage.has_bucket(uri) is False


@pytest.mark.parametrize("names_", [("m.py", "m.py/logs/1/m.py"), ("m.py/logs/1", "m.py"), ("a/b/c", "a/b", "a")])
def test_an_object_may_have_others_below_it(client: httpx.Client, names_: tuple[str, ...]) -> None:
    for name in names_:
        put(client, name, name.encode()).raise_for_status()
    assert {name: get(client, name).content for name in names_} == {name: name.encode() for name in names_}
    assert set(names_) <= set(names(client))
    for name in names_:
        assert client.delete(f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}").status_code == 204


@pytest.mark.parametrize("link", ["file", "folder", "bucket"])
def test_a_link_in_the_data_directory_is_not_followed(
    client: httpx.Client, data_dir: Path, tmp_path: Path, link: str
) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    if link == "bucket":
        (data_dir / "cloudstorage" / "linked-bucket").symlink_to(tmp_path)
        path, upload = "linked-bucket/o/secret", "linked-bucket"
    elif link == "folder":
        (data_dir / "cloudstorage" / BUCKET / "way").symlink_to(tmp_path)
        path, upload = f"{BUCKET}/o/way%2Fsecret", BUCKET
    else:
        (data_dir / "cloudstorage" / BUCKET / "secret").symlink_to(tmp_path / "secret")
        path, upload = f"{BUCKET}/o/secret", BUCKET
    assert client.get(f"/storage/v1/b/{path}?alt=media").status_code == 404
    assert "of somebody else" not in client.get(f"/storage/v1/b/{BUCKET}/o").text
    for name in ("way/new" if link == "folder" else "new", "secret"):
        client.post(f"/upload/storage/v1/b/{upload}/o?uploadType=media&name={name}", content=b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "of somebody else"


# --- who may read the files ---


def readable_by_others(folder: Path) -> list[str]:
    return [str(path) for path in (folder, *below(folder)) if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def test_no_other_user_reads_what_is_stored(tmp_path: Path) -> None:
    stored = tmp_path / "data" / "cloudstorage"
    (stored / BUCKET / "runs").mkdir(parents=True)
    (stored / BUCKET / "runs" / "before.ipynb").write_text("{}")
    assert readable_by_others(stored)
    mask = os.umask(0)
    try:
        with Emulator(tmp_path / "data", buckets=["another"]) as emulator:
            assert not readable_by_others(stored)
            with httpx.Client(base_url=emulator.storage_url, timeout=patient(5)) as client:
                for name in ("runs/new/a.ipynb", "runs", "../escaped", "runs/before.ipynb"):
                    put(client, name, b"x").raise_for_status()
                begun = {"uploadType": "resumable", "name": "begun"}
                where = client.post(f"/upload/storage/v1/b/{BUCKET}/o", params=begun).headers["Location"]
                client.put(where, content=b"x", headers={"Content-Range": "bytes 0-0/2"})
                assert not readable_by_others(stored)
    finally:
        os.umask(mask)


# --- folders that are uploaded at start ---


def hidden(folder: Path, secret: Path) -> None:
    (folder / ".env").write_bytes(secret.read_bytes())
    (folder / "sub" / ".hidden").write_bytes(secret.read_bytes())


def below_hidden(folder: Path, secret: Path) -> None:
    (folder / ".git" / "deep").mkdir(parents=True)
    (folder / ".git" / "config").write_bytes(secret.read_bytes())
    (folder / ".git" / "deep" / "config").write_bytes(secret.read_bytes())
    (folder / "sub" / ".ssh").mkdir()
    (folder / "sub" / ".ssh" / "id").write_bytes(secret.read_bytes())


def linked_file(folder: Path, secret: Path) -> None:
    (folder / "link").symlink_to(secret)
    (folder / "sub" / "link").symlink_to(os.path.relpath(secret, folder / "sub"))


def linked_folder(folder: Path, secret: Path) -> None:
    (folder / "link").symlink_to(secret.parent)
    (folder / "sub" / "loop").symlink_to(folder)


def chained_links(folder: Path, secret: Path) -> None:
    (folder / "first").symlink_to("second")
    (folder / "second").symlink_to(secret.parent)
    (folder / "third").symlink_to("first/secret")


def special_files(folder: Path, secret: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to(folder / "nothing")
    linked_file(folder, secret)


@pytest.mark.parametrize(
    "plant", [hidden, below_hidden, linked_file, linked_folder, chained_links, special_files], ids=lambda f: f.__name__
)
def test_an_uploaded_folder_gives_nothing_else_away(
    tmp_path: Path, plant: Callable[[Path, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    secret, folder = tmp_path / "elsewhere" / "secret", tmp_path / "folder"
    secret.parent.mkdir()
    secret.write_text("of somebody else")
    (folder / "sub").mkdir(parents=True)
    (folder / "a.ipynb").write_text("{}")
    (folder / "sub" / "b.ipynb").write_text("{}")
    plant(folder, secret)
    with Emulator(tmp_path / "data", uploads=[(folder, "gs://uploads/n")]) as emulator:
        found = names(httpx.Client(base_url=emulator.storage_url), "uploads")
    assert found == ["n/a.ipynb", "n/sub/b.ipynb"]
    stored = [path for path in (tmp_path / "data" / "cloudstorage").rglob("*") if path.is_file()]
    assert not [path for path in stored if b"of somebody else" in path.read_bytes()]
    assert "Not uploaded from" in caplog.text


@pytest.mark.parametrize("kind", ["link to a folder", "link to a link", "hidden"])
def test_a_folder_that_is_a_link_or_hidden_is_not_uploaded(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "a").write_text("of somebody else")
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "second").symlink_to(tmp_path / "link")
    (tmp_path / ".hidden").mkdir()
    folder = tmp_path / {"link to a folder": "link", "link to a link": "second", "hidden": ".hidden"}[kind]
    with (
        pytest.raises(OSError, match="is hidden or a symbolic link"),
        Emulator(tmp_path / "data", uploads=[(folder, "gs://uploads/n")]),
    ):
        pass
    assert not list((tmp_path / "data" / "cloudstorage").rglob("a"))
