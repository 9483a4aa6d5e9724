"""The languages that code is highlighted in."""

from __future__ import annotations

from functools import cache

from pygments.lexers import get_all_lexers

# IPython's own lexers would load IPython, which costs more than all the rest.
_SAME_AS = {"ipython": "python", "ipython2": "python", "ipython3": "python", "ir": "r"}


@cache
def _names() -> frozenset[str]:
    # Not those of installed plugins: whatever a notebook names would be looked for among all packages.
    return frozenset(name for _, aliases, _, _ in get_all_lexers(plugins=False) for name in aliases)


def known_language(name: object) -> str:
    """Return the name under which Pygments knows a language; empty if it does not."""
    wanted = name.strip().lower() if isinstance(name, str) else ""
    wanted = _SAME_AS.get(wanted, wanted)
    return wanted if wanted in _names() else ""
