"""Make HTML of a notebook safe for our page, by an allow-list of elements, attributes and CSS.

The result runs nothing, loads nothing and links to no other page. It cannot look like a part of the page around it: ids
get a prefix, and only the classes that tables and highlighted code need are kept. URLs of links and of images on other
hosts are shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape
from urllib.parse import quote, unquote

import nh3
from pygments.token import STANDARD_TYPES

from airflow_provider_nbjob.rendering.nesting import flat

ID_PREFIX = "content-"
_ADDRESS_MAX = 2000  # characters that are shown


def _words(text: str) -> set[str]:
    return set(text.split())


_TAGS = _words(
    """a abbr b bdi blockquote br caption center cite code col colgroup dd del details dfn div dl dt em figcaption
    figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q rp rt ruby s samp small span strike strong sub summary
    sup table tbody td tfoot th thead time tr tt u ul var wbr"""
)
# The content of other elements is kept, but the content of these is not text for a reader.
_WITHOUT_CONTENT = _words(
    """audio canvas embed iframe math noembed noframes noscript object script select style svg template textarea title
    video xmp"""
)
# Names, for a person, of elements whose content is left out. An image of an output may be an SVG, and is shown. An SVG
# within HTML is not: it is a part of the page, and may run scripts.
_LEFT_OUT = {
    "a drawing (SVG)": re.compile(r"<svg[\s/>]", re.IGNORECASE),
    "a formula (MathML)": re.compile(r"<math[\s/>]", re.IGNORECASE),
    "a video or a sound": re.compile(r"<(?:audio|video)[\s/>]", re.IGNORECASE),
    "a form": re.compile(r"<(?:select|textarea)[\s/>]", re.IGNORECASE),
}
_CELL = {"colspan", "rowspan", "align", "valign", "scope"}
_ATTRIBUTES = {
    "*": {"class", "dir", "id", "lang", "style", "title"},
    "a": {"href"},
    "col": {"span"},
    "colgroup": {"span"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "ol": {"reversed", "start", "type"},
    "td": _CELL,
    "th": _CELL,
}
_STYLE = _words(
    """background-color border border-bottom border-collapse border-color border-left border-right border-style
    border-top border-width color font-family font-size font-style font-weight max-width text-align text-decoration
    vertical-align white-space width padding"""
)
# No function except for colours, and no escape that could spell one.
_STYLE_VALUE = re.compile(r"(?:[\w\s.,:;#%!'\"+-]|(?:rgb|rgba|hsl|hsla)\([\d\s.,%/]+\))*", re.IGNORECASE)
_CLASSES = {"dataframe", "highlight", *filter(None, STANDARD_TYPES.values())}

_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}", re.IGNORECASE)
_SHOWN_ADDRESS = re.compile(r"(?:https?:|ftp:|mailto:|[^:]*$|[^:]*[/?#])", re.IGNORECASE)
# Placeholders of URLs of other pages and images, until the URLs are written out. They link to nothing and load nothing,
# so the result is safe even if a later step misses one.
_LINK_AWAY, _IMAGE_AWAY = "#away:", "data:,"


def sanitized(html: str) -> str:
    """Return HTML that is safe within an element of a page.

    :param html: a fragment; it may be hostile
    :return: a fragment whose elements are all closed
    """
    return _with_addresses(_cleaner.clean(flat(html, _TAGS | _WITHOUT_CONTENT, _ATTRIBUTES)))


def left_out(html: str) -> list[str]:
    """Return sentences, for a person, on the visible parts of HTML that `sanitized` removes; one for each kind."""
    found = (kind for kind, pattern in _LEFT_OUT.items() if pattern.search(html))
    return [f"There is {kind} here that cannot be shown; it is in the notebook." for kind in found]


def note(text: str) -> str:
    """Return a remark of ours on a notebook, as a paragraph of its own."""
    return f'<p class="nbjob-note">{escape(text)}</p>'


def has_content(html: str) -> bool:
    """Return whether sanitized HTML has something visible: a text, an image or a line."""
    return "<img" in html or "<hr" in html or bool(unescape(_TAG.sub("", html)).strip())


def _attribute(tag: str, name: str, value: str) -> str | None:
    rule = _RULES.get(name)
    return rule(value) if rule else value


def _class(value: str) -> str | None:
    return " ".join(word for word in value.split() if word in _CLASSES) or None


def _href(value: str) -> str | None:
    if value.startswith("#"):
        return f"#{ID_PREFIX}{value[1:]}"
    return f"{_LINK_AWAY}{quote(value)}" if value and _SHOWN_ADDRESS.match(value) else None


def _src(value: str) -> str | None:
    compact = re.sub(r"\s+", "", value) if len(value.split(maxsplit=1)) > 1 else value.strip()
    if _IMAGE.fullmatch(compact):
        return compact
    return f"{_IMAGE_AWAY}{quote(value)}" if _SHOWN_ADDRESS.match(value) else None


def _style(value: str) -> str | None:
    return value if _STYLE_VALUE.fullmatch(value) else None


_RULES: dict[str, Callable[[str], str | None]] = {
    "class": _class,
    "href": _href,
    "id": lambda value: ID_PREFIX + value,
    "src": _src,
    "style": _style,
}
_cleaner = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_WITHOUT_CONTENT,
    attributes=_ATTRIBUTES,
    attribute_filter=_attribute,
    filter_style_properties=_STYLE,
    url_schemes={"http", "https", "ftp", "mailto", "data", "attachment"},
    link_rel=None,
)

# A tag as the cleaner writes it, with all values in double quotes. Each tag is matched as a whole, so that no part of a
# value is taken for a tag.
_TAG = re.compile(r'<(/?)([a-z0-9]+)((?: [a-z]+="[^"]*")*)>')
_VALUE = re.compile(r' ([a-z]+)="([^"]*)"')


def _with_addresses(html: str) -> str:
    """Write the URLs of links and images of other hosts as text."""
    if _LINK_AWAY not in html and "<img" not in html:
        return html
    opened: list[tuple[str, int]] = []  # for each open link, its URL and the position of its text

    def replaced(match: re.Match[str]) -> str:
        closing, tag, attributes = match.groups()
        if tag == "img":
            return _image(match[0], dict(_VALUE.findall(attributes)))
        if tag != "a":
            return match[0]
        if closing:
            address, start = opened.pop()
            text = unescape(_TAG.sub("", html[start : match.start()])).strip()
            return "</a>" if not address or text in (address, f"{address}/") else f"</a>{_address(address)}"
        values = dict(_VALUE.findall(attributes))
        opened.append((_away(values.get("href", ""), _LINK_AWAY), match.end()))
        return _link(values) if opened[-1][0] else match[0]

    return _TAG.sub(replaced, html)


def _away(value: str, marker: str) -> str:
    return unquote(unescape(value.removeprefix(marker))) if value.startswith(marker) else ""


def _address(address: str) -> str:
    return f' <span class="nbjob-address">({escape(address[:_ADDRESS_MAX])})</span>'


def _link(values: dict[str, str]) -> str:
    values["title"] = escape(_away(values.pop("href"), _LINK_AWAY)[:_ADDRESS_MAX])
    return "<a" + "".join(f' {name}="{value}"' for name, value in values.items()) + ">"


def _image(tag: str, values: dict[str, str]) -> str:
    source = values.get("src", _IMAGE_AWAY)
    if not source.startswith(_IMAGE_AWAY):
        return tag if "alt" in values else tag[:-1] + ' alt="Image without a description">'
    address = _away(source, _IMAGE_AWAY)
    alt = values.get("alt") or "Image"
    return f'<span class="nbjob-image">{_as_text(alt)}</span>{_address(address) if address else ""}'


def _as_text(value: str) -> str:
    return escape(unescape(value))
