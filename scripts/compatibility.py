"""The versions that are tested together, and the page in `docs/` that says with which of them the tests passed.

`noxfile.py` runs a cell and writes what came of it below `RESULTS`. This script adds these results to
`docs/compatibility.json`, which is in the repository, and writes `docs/compatibility.md` from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import metadata, requires
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "tests" / "output" / "matrix"
RECORD = CHECKOUT / "docs" / "compatibility.json"
PAGE = CHECKOUT / "docs" / "compatibility.md"
PROJECT = "airflow-provider-nbjob"

AIRFLOWS = ("3.1", "3.2", "3.3")  # minors; the newest patch of each is taken from the package index
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
RESOLUTIONS = ("lowest-direct", "newest")
PARTS = {
    "unit": "unit",
    "integration": "integration",
    "airflow": "in Airflow",
}  # of a cell, and their names in the table
# What Airflow itself works with, where it allows more. The API server of 3.2.2 does not start with FastAPI 0.165
# ("Model 'TITerminalStatePayload' needs a discriminator field"), and does with 0.136.3. `DAG.test` of 3.2.2 fails with
# svcs 26.2 ("'State' object has no attribute 'svcs_registry'").
WORKS_WITH = {"3.2": ("fastapi<0.137", "svcs<26")}
CI = ("3.1-lowest-direct-py3.10", "3.2-newest-py3.12", "3.3-newest-py3.13")  # one cell of each minor


class Cell(NamedTuple):
    """Versions that are tested together.

    :param airflow: minor version
    :param resolution: ``lowest-direct`` for the declared lower bounds, ``newest`` for the newest of everything
    :param python: minor version
    """

    airflow: str
    resolution: str
    python: str

    @property
    def name(self) -> str:
        """Return the name of the cell's session and of its folder."""
        return f"{self.airflow}-{self.resolution}-py{self.python}"


CELLS = [Cell(*versions) for versions in product(AIRFLOWS, RESOLUTIONS, PYTHONS)]


def floors() -> dict[str, str]:
    """Return the lower bound of each dependency that is always installed, as the package declares it."""
    required = [requirement for requirement in requires(PROJECT) or [] if "extra ==" not in requirement]
    pairs = (re.split(r">=|;", line) for line in sorted(required))
    return {pair[0].strip(): pair[1].strip() for pair in pairs}


def claimed_pythons() -> list[str]:
    """Return the versions of Python that the package claims by its classifiers."""
    classifiers = metadata(PROJECT).get_all("Classifier") or []
    return [
        found[1] for line in classifiers if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]


def recorded() -> dict[str, dict[str, Any]]:
    """Return the results in the repository, by the name of the cell."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page of these results."""
    pinned = WORKS_WITH.items()
    lines = [
        "# Compatibility",
        "",
        "`make matrix` runs these tests with the wheel, each cell in a virtual environment of its own.",
        "`scripts/compatibility.py` writes this page from its results; a cell that says *not run* has none.",
        "*Lowest* is the lowest version of each dependency that the package declares, *newest* the newest one.",
        "Each Airflow is the newest patch of its minor version. `docs/compatibility.json` has the commit of each part.",
        "The package claims a version of Python only if its cells can run. For 3.14 the dependencies resolve, but no",
        "interpreter was there.",
        *(f"Airflow {airflow} itself works with `{'` and `'.join(bounds)}` only." for airflow, bounds in pinned),
        "",
        "| Airflow | Python | lowest | newest |",
        "|---|---|---|---|",
    ]
    for airflow, python in product(AIRFLOWS, PYTHONS):
        shown = (_shown(results.get(Cell(airflow, resolution, python).name)) for resolution in RESOLUTIONS)
        lines.append(f"| {airflow} | {python} | {' | '.join(shown)} |")
    ran = [result["versions"] for result in results.values() if "versions" in result]
    lines += [
        "",
        "The lower bounds of the package, and the versions that these cells ran with:",
        "",
        "| dependency | declared | lowest | newest |",
        "|---|---|---|---|",
    ]
    for name, bound in floors().items():
        versions = sorted({versions[name] for versions in ran if name in versions}, key=_ordered)
        lines.append(f"| {name} | {bound} | {' | '.join((versions[0], versions[-1]) if versions else ('', ''))} |")
    return "\n".join([*lines, ""])


def _shown(result: Mapping[str, Any] | None) -> str:
    if not result:
        return "not run"
    if "missing" in result:
        return f"not run: no {result['missing']}"
    parts = [_part(name, result["parts"][part]) for part, name in PARTS.items() if part in result["parts"]]
    return f"{result['versions']['apache-airflow']}: {'; '.join(parts)} ({result['date']})"


def _part(name: str, counts: Mapping[str, Any]) -> str:
    failed = f", **{counts['failed']} failed**" if counts["failed"] else ""
    return f"{counts['passed']:,} {name}{failed}"


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def merged(results: Mapping[str, Mapping[str, Any]], files: Iterable[Path]) -> dict[str, Any]:
    """Return results with those in files, which replace the ones of their cells."""
    newer = {result["cell"]: result for result in (json.loads(file.read_text()) for file in files)}
    names = [cell.name for cell in CELLS]
    return {name: {**results, **newer}[name] for name in names if name in results or name in newer}


def main() -> None:
    """Add the results of this machine to those in the repository, and write the page."""
    results = merged(recorded(), sorted(RESULTS.glob("*/result.json")))
    RECORD.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
