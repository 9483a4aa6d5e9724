"""Define an object in Cloud Storage, the names and metadata that it may have, and its content while it is written."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core.exceptions import PreconditionFailed, from_http_status

from airflow_provider_nbjob.emulator import folders

MAX_OBJECT_BYTES = 4 * 2**30  # a larger upload is refused
MAX_FIELDS_BYTES = 16 * 2**10  # of an object's metadata as JSON; Cloud Storage takes 8 KiB of custom metadata
TEXT_FIELDS = ("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl", "customTime")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Stored:
    """The live generation of an object.

    :param is_plain: whether its file is ``BUCKET/NAME``
    :param inode: of its file
    :param modified: of its file, in nanoseconds since 1970
    :param created: of the generation, in microseconds since 1970
    :param updated: of its metadata, in microseconds since 1970
    :param md5: in base64; empty if it is not known
    :param crc32c: in base64, big endian; empty if it is not known
    :param fields: those that a client sets, such as ``contentType``, and ``metadata`` with its own keys
    """

    bucket: str
    name: str
    is_plain: bool
    inode: int
    modified: int
    size: int
    generation: int
    metageneration: int
    created: int
    updated: int
    md5: str
    crc32c: str
    fields: dict[str, Any]

    @property
    def uri(self) -> str:
        """Return the URI, ``gs://BUCKET/NAME``."""
        return f"gs://{self.bucket}/{self.name}"


@dataclass(frozen=True)
class Conditions:
    """The conditions of a request on the generations of an object; a missing object has generation 0."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, stored: Stored | None) -> None:
        """Refuse an object that does not meet the conditions.

        :raises PreconditionFailed: if a condition does not hold
        """
        generation, metageneration = (stored.generation, stored.metageneration) if stored else (0, 0)
        holds = (
            self.generation_match in (None, generation)
            and self.metageneration_match in (None, metageneration)
            and (self.generation_not_match is None or self.generation_not_match != generation)
            and (self.metageneration_not_match is None or self.metageneration_not_match != metageneration)
        )
        if not holds:
            raise PreconditionFailed("At least one of the pre-conditions you specified did not hold.")


ANY = Conditions()


class Draft:
    """Content that is being written, and becomes an object's as a whole or not at all.

    No file stays open between two writes: an upload may take days.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._md5, self._crc32c = hashlib.md5(usedforsecurity=False), google_crc32c.Checksum()
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folders.FILE_MODE))

    def write(self, content: bytes) -> None:
        """Append to the content.

        :raises GoogleAPICallError: 413, if it gets larger than `MAX_OBJECT_BYTES`
        """
        if not content:
            return
        refuse_size(self.size + len(content))
        with self.path.open("ab") as file:
            file.write(content)
        self.size += len(content)
        self._md5.update(content)
        self._crc32c.update(content)

    @property
    def md5(self) -> str:
        """Return the MD5 of the content, in base64."""
        return base64.b64encode(self._md5.digest()).decode()

    @property
    def crc32c(self) -> str:
        """Return the CRC32C of the content, in base64."""
        return base64.b64encode(self._crc32c.digest()).decode()

    def discard(self) -> None:
        """Remove the file, unless it has become an object's."""
        self.path.unlink(missing_ok=True)


def refuse_size(size: int) -> None:
    """Refuse the size of an object, in bytes.

    :raises GoogleAPICallError: 413, if it is larger than `MAX_OBJECT_BYTES`
    """
    if size > MAX_OBJECT_BYTES:
        raise from_http_status(413, f"The emulator takes objects of at most {MAX_OBJECT_BYTES} bytes.")


@dataclass
class Page:
    """One page of a list.

    :param next_name: the name that the next page begins with, or the first after it; None if this is the last page
    """

    items: list[Stored] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_name: str | None = None

    def __len__(self) -> int:
        return len(self.items) + len(self.prefixes)


def plain_parts(name: str) -> list[str] | None:
    """Return the parts of the path of an object's plain file, or None if it has none; see `object_files`."""
    parts = name.split("/")
    return parts if len(parts) <= folders.MAX_DEPTH and all(map(_is_ordinary, parts)) else None


def _is_ordinary(part: str) -> bool:
    return (
        part != ""
        and not part.startswith(".")
        and part.isprintable()
        and "\\" not in part
        and unicodedata.is_normalized("NFC", part)
        and len(part.encode()) <= 255
    )


def name_fault(name: str) -> str | None:
    """Return why an object cannot have a name, or None if it can; as in Cloud Storage."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "The name of the object is not valid Unicode."
    if not name:
        return "Required: the name of the object"
    if size > 1024:
        return "The name of the object is longer than 1024 bytes."
    if name in (".", "..") or "\r" in name or "\n" in name or name.startswith(".well-known/acme-challenge/"):
        return "The name of the object is not allowed."
    return None


def fields_fault(fields: Mapping[str, Any]) -> str | None:
    """Return why an object cannot have metadata, or None if it can.

    The texts go into headers of answers, which a control character would end.
    """
    for key, value in fields.items():
        if key == "metadata":
            if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
                return "Invalid value for: metadata"
        elif key not in TEXT_FIELDS or not isinstance(value, str) or _CONTROL.search(value):
            return f"Invalid value for: {key}"
    try:
        size = len(json.dumps(fields, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return "The metadata is not valid Unicode."
    return f"The metadata is larger than {MAX_FIELDS_BYTES} bytes." if size > MAX_FIELDS_BYTES else None


def after_prefix(prefix: str) -> str | None:
    """Return the first text after all that begin with a prefix, in the order of UTF-8; None if there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
