"""Flatten HTML before it is sanitized, so that a parser needs linear time.

A conforming parser searches all open elements at every tag, and opens elements again that a block closed. So 40,000
nested elements, or a hundred open elements around a thousand blocks, take seconds. The HTML that is written here has
neither: for any input it is well-nested, with at most `DEPTH_MAX` open elements. It is not safe until `sanitized` has
processed it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DEPTH_MAX = 100  # nested elements; documents of people have about a dozen
TAGS_MAX = 1000  # tags that are left as they are: if all are nested, a parser needs a few milliseconds
# Elements that a parser nests never, or only with a table around each.
_FLAT = "td|th|tr|br|hr|img|col|wbr"
_NESTING = re.compile(rf"<(?!(?:{_FLAT})[ \t\n\r\f/>])[a-z]", re.IGNORECASE)
# A tag with very many attributes, each of which a parser compares with all before it, or a tag without a clear end.
_LONG = re.compile(r"<[^<]{5000}|=[ \t\n\r\f]*(?:\"[^\"<]{0,5000}<|'[^'<]{0,5000}<|[^\s\"'<>]{0,5000}<)")

_TAG = re.compile(r"<(/?)([a-z][^ \t\n\r\f/>]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]*)))?")
_VOID = _words("br col embed hr img wbr")
# A parser takes their content for text, up to their own closing tag.
_RAW = {
    name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])", re.IGNORECASE)
    for name in _words("iframe noembed noframes noscript script style textarea title xmp")
}
_SCOPE = _words("caption table td th")  # nothing inside of these closes what is outside
_PARTS = _words("caption col colgroup tbody td tfoot th thead tr")  # of a table
_HOLDS_PARTS = _words("colgroup table tbody tfoot thead tr")  # and nothing else
_BLOCKS = _words(
    """blockquote center dd details div dl dt figcaption figure
    h1 h2 h3 h4 h5 h6 hr li ol p pre summary table ul"""
)
# What a tag closes, and what it looks for it in.
_CLOSES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    **{name: (frozenset({"p"}), _SCOPE) for name in _BLOCKS},
    "li": (frozenset({"li", "p"}), _SCOPE | {"ol", "ul"}),
    **{name: (frozenset({"dd", "dt", "p"}), _SCOPE | {"dl"}) for name in ("dd", "dt")},
    **{name: (frozenset({"caption", "colgroup", "td", "th"}), frozenset({"table"})) for name in ("td", "th")},
    "tr": (frozenset({"caption", "colgroup", "tr"}), frozenset({"table"})),
    **{
        name: (frozenset({"caption", "colgroup", "tbody", "tfoot", "thead", "tr"}), frozenset({"table"}))
        for name in ("caption", "colgroup", "tbody", "tfoot", "thead")
    },
}


def flat(html: str, tags: Collection[str], attributes: Mapping[str, Collection[str]]) -> str:
    """Return HTML that a parser reads in linear time. HTML that cannot be deeply nested is returned unchanged.

    :param html: a fragment; it may be hostile
    :param tags: names of the elements that are kept; of other elements only the content is kept
    :param attributes: names of attributes that are kept, by element; those of ``"*"`` are kept on all elements
    """
    if len(_NESTING.findall(html)) <= TAGS_MAX and not _LONG.search(html):
        return html
    return "".join(_Writer(tags, attributes).pieces(html))


class _Writer:
    """Write a fragment again, with its elements closed in the reverse order of their opening."""

    def __init__(self, tags: Collection[str], attributes: Mapping[str, Collection[str]]) -> None:
        self._tags, self._attributes = tags, attributes
        self._open: list[str] = []

    def pieces(self, html: str) -> Iterator[str]:
        position = 0
        while (start := html.find("<", position)) >= 0:
            yield html[position:start]
            following = html[start + 1 : start + 3].lstrip("/")[:1]
            if following.isascii() and following.isalpha():
                tag = _TAG.match(html, start)
                if tag is None:  # it has no end, so a parser takes the rest for a part of it
                    return
                position = tag.end()
                name = tag[2].lower()
                if tag[1]:
                    yield from self._closed(name)
                elif name in _RAW:
                    end = _RAW[name].search(html, position)
                    if end is None:
                        return
                    position = end.start()
                else:
                    yield from self._opened(name, tag[3])
            elif html[start + 1 : start + 2] in ("!", "?", "/"):
                closing = "-->" if html.startswith("<!--", start) else ">"
                end_of_comment = html.find(closing, start + 2)
                if end_of_comment < 0:
                    return
                position = end_of_comment + len(closing)
            else:
                yield "&lt;"
                position = start + 1
        yield html[position:]
        yield from self._pop(0)

    def _opened(self, name: str, attributes: str) -> Iterator[str]:
        is_deep = len(self._open) >= DEPTH_MAX and name not in _VOID
        if is_deep or name not in self._tags or (name in _PARTS and "table" not in self._open):
            return
        if name in _CLOSES:
            yield from self._closed_by(name)
        if self._open and self._open[-1] in _HOLDS_PARTS and name not in _PARTS:
            return
        yield f"<{name}{''.join(self._kept(name, attributes))}>"
        if name not in _VOID:
            self._open.append(name)

    def _closed_by(self, name: str) -> Iterator[str]:
        closes, within = _CLOSES[name]
        at = None
        for index in range(len(self._open) - 1, -1, -1):
            if self._open[index] in within:
                break
            if self._open[index] in closes:
                at = index
        if at is not None:
            yield from self._pop(at)

    def _closed(self, name: str) -> Iterator[str]:
        within = frozenset({"table"}) if name in _PARTS else _SCOPE
        for index in range(len(self._open) - 1, -1, -1):
            if self._open[index] == name:
                yield from self._pop(index)
                return
            if self._open[index] in within:
                return

    def _pop(self, length: int) -> Iterator[str]:
        while len(self._open) > length:
            yield f"</{self._open.pop()}>"

    def _kept(self, name: str, attributes: str) -> Iterator[str]:
        allowed = {*self._attributes.get("*", ()), *self._attributes.get(name, ())}
        for match in _ATTRIBUTE.finditer(attributes):
            attribute = match[1].lower()
            if attribute in allowed:
                allowed.remove(attribute)
                value = match[2] or match[3] or match[4] or ""
                yield f' {attribute}="{value.replace("<", "&lt;").replace(chr(34), "&quot;")}"'
