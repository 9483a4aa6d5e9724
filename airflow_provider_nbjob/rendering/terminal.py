"""Convert text with a terminal's colours to HTML. The style sheet defines classes for the sixteen named colours.

Each of the other 16 million colours becomes two: one that is dark enough for a light page, and one that is light enough
for a dark page.
"""

from __future__ import annotations

import re

from nbconvert.filters import ansi2html

Color = tuple[int, ...]
# Luminances at which text has a contrast of 4.5 to each background of the style sheet.
DARK_TEXT, LIGHT_TEXT = 0.12, 0.4
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_STEPS = 20
_COLOR = re.compile(r"(background-color|color): rgb\((\d+),(\d+),(\d+)\)")


def terminal_html(text: str) -> str:
    """Return the escaped text, with its ANSI colours as spans."""
    return _COLOR.sub(_for_both_themes, str(ansi2html(text)))


def luminance(color: Color) -> float:
    """Return the relative luminance of an sRGB colour, as WCAG defines it: 0 is black, 1 is white."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _for_both_themes(match: re.Match[str]) -> str:
    name, color = match[1], tuple(min(int(part), 255) for part in match.group(2, 3, 4))
    if name == "color":
        on_light = next(mixed for mixed in _towards(_BLACK, color) if luminance(mixed) <= DARK_TEXT)
        on_dark = next(mixed for mixed in _towards(_WHITE, color) if luminance(mixed) >= LIGHT_TEXT)
    else:  # a tint of the colour, on which all text is readable
        on_light, on_dark = _mixed(color, _WHITE, 0.85), _mixed(color, _BLACK, 0.85)
    return f"{name}: light-dark(rgb{on_light}, rgb{on_dark})"


def _towards(end: Color, color: Color) -> list[Color]:
    return [_mixed(color, end, step / _STEPS) for step in range(_STEPS + 1)]


def _mixed(color: Color, other: Color, part: float) -> Color:
    """Return a mix of two colours, with this share of the second one."""
    return tuple(round(a + (b - a) * part) for a, b in zip(color, other, strict=True))
