"""Keep the resumable uploads that have begun: the metadata of each object, and the part of its content that came.

They are kept in memory and do not survive a restart; a client then begins again.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from google.api_core.exceptions import TooManyRequests

from airflow_provider_nbjob.emulator.stored_object import Conditions, Draft, Stored

MAX_UPLOADS = 1000  # at once; the one that nothing was sent to for longest gives way
LIFETIME = 7 * 86400  # seconds after its last piece that an upload can be resumed, as in Cloud Storage


@dataclass
class Upload:
    """A resumable upload.

    :param fields: of the object, as in `Stored`
    :param expected: the size of the content in bytes, if the client sent it at the start
    :param result: the object, once all of its content has come
    :param is_receiving: whether a request is sending content now
    """

    bucket: str
    name: str
    fields: dict[str, Any]
    conditions: Conditions
    draft: Draft
    expected: int | None
    result: Stored | None = None
    is_receiving: bool = False
    id: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    last_used: float = field(default_factory=time.monotonic)


class Uploads:
    """The resumable uploads of one server; used on its event loop only."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}

    def add(self, upload: Upload) -> None:
        """Keep an upload that begins.

        :raises TooManyRequests: if content is being sent to all of `MAX_UPLOADS`
        """
        now = time.monotonic()
        idle = sorted((u for u in self._uploads.values() if not u.is_receiving), key=lambda u: u.last_used)
        for old in idle:
            if len(self._uploads) < MAX_UPLOADS and old.last_used > now - LIFETIME:
                break
            self.remove(old.id)
        if len(self._uploads) >= MAX_UPLOADS:
            raise TooManyRequests(f"{MAX_UPLOADS} resumable uploads are under way.")
        self._uploads[upload.id] = upload

    def find(self, upload_id: str) -> Upload | None:
        """Return an upload, and note that it is used."""
        upload = self._uploads.get(upload_id)
        if upload:
            upload.last_used = time.monotonic()
        return upload

    def remove(self, upload_id: str) -> None:
        """Forget an upload, and discard the content that came."""
        if upload := self._uploads.pop(upload_id, None):
            upload.draft.discard()
