"""Prepare text of notebooks for a log: cut long texts, and remove colours and control characters."""

from __future__ import annotations

import re

# Colours and cursor movements; window titles and hyperlinks, which end with BEL or ST; other escape sequences.
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Marks of the beginning or the end of a group, in the Airflow UI and in other viewers of logs.
_GROUP = re.compile(r"::(?=(?:end)?group::)|##(?=\[(?:end)?group\])", re.IGNORECASE)


class CutText:
    """A buffer that keeps the beginning and the end of a text that is longer than a limit.

    :param limit: maximum number of characters to keep
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = ""
        self._tail: list[str] = []
        self._tail_size = 0
        self._left_out = 0

    def add(self, text: str) -> None:
        """Append a piece of text."""
        room = self._half - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if text:
            self._tail.append(text)
            self._tail_size += len(text)
            if self._tail_size > 4 * self._half:  # not on every call, so that many small pieces take linear time
                self._shorten()

    def _shorten(self) -> None:
        tail = "".join(self._tail)
        kept = tail[max(0, len(tail) - self._half) :]
        self._left_out += len(tail) - len(kept)
        self._tail, self._tail_size = [kept], len(kept)

    @property
    def is_cut(self) -> bool:
        """Return whether part of the text was left out."""
        self._shorten()
        return self._left_out > 0

    def __str__(self) -> str:
        self._shorten()
        gap = f"\n[... {self._left_out} characters left out ...]\n" if self._left_out else ""
        return self._head + gap + "".join(self._tail)


def without_ansi(text: str) -> str:
    """Remove the escape sequences of terminals, such as colours, from a text."""
    return _ANSI.sub("", text)


def log_lines(text: str) -> list[str]:
    """Split a text into lines that are safe to show in a log.

    A line that was overwritten, such as a progress bar, shows its last state. Control characters other than tabs are
    removed, and half surrogates are replaced. No line begins or ends a group of the log.
    """
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in without_ansi(text).rstrip("\n").split("\n")]
    return [_GROUP.sub(": :", _UNSEEN.sub("", line)).encode(errors="replace").decode() for line in lines]


def storable(text: str) -> str:
    """Replace what PostgreSQL refuses in a value of XCom: half surrogates become ``?``, and NUL becomes U+FFFD."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def one_line(text: str, limit: int = 200) -> str:
    """Convert a text to one line of a log.

    :param limit: maximum number of characters, default 200; a longer line is cut and ends with ``...``
    """
    line = " ".join(part.strip() for part in log_lines(text) if part.strip())
    return line if len(line) <= limit else f"{line[:limit]}..."
