"""Find the languages in which code is highlighted."""

from __future__ import annotations

from functools import cache

from pygments.lexers import get_all_lexers

# IPython's own lexers import IPython, which takes longer than the rest of the rendering.
_SAME_AS = {"ipython": "python", "ipython2": "python", "ipython3": "python", "ir": "r"}


@cache
def _names() -> frozenset[str]:
    # Without the lexers of plugins: Pygments would search all installed packages for any name that a notebook has.
    return frozenset(name for _, aliases, _, _ in get_all_lexers(plugins=False) for name in aliases)


def known_language(name: object) -> str:
    """Return the name under which Pygments knows a language; empty if it does not."""
    wanted = name.strip().lower() if isinstance(name, str) else ""
    wanted = _SAME_AS.get(wanted, wanted)
    return wanted if wanted in _names() else ""
