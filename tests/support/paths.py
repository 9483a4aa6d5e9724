"""Folders of the checkout."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
NOTEBOOKS = CHECKOUT / "tests" / "notebooks"
