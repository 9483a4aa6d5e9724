"""Folders of the checkout, and that of the package, which `make matrix` installs from a wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = Path(str(find_spec("airflow_provider_nbjob").origin)).parent  # type: ignore[union-attr]
NOTEBOOKS = CHECKOUT / "tests" / "notebooks"
