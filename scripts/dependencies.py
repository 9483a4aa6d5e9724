"""List the direct dependencies with their licences and reasons: ``make dependencies`` writes docs/dependencies.md.

The reason of each is the comment behind it in pyproject.toml, its licence is that of the installed package.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "dependencies.md"
PROJECT = "airflow-provider-nbjob"
ALWAYS, BUILD = "dependencies", "requires"  # the keys of the lists that are no extra's
TITLES = {ALWAYS: "Always installed", BUILD: "To build the package"}
# SPDX's identifiers of what packages without `License-Expression` say.
SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "the mit license (mit)": "MIT",
}

_LIST = re.compile(r"^(\w+) = \[$")
_ENTRY = re.compile(r'^    "(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?P<bound>[^"]*)",? *(?:# (?P<reason>.*))?$')


class Dependency(NamedTuple):
    """A dependency, as pyproject.toml declares it.

    :param group: ``dependencies``, ``requires`` of the build system, or an extra
    :param bound: on its version; empty for none
    """

    group: str
    name: str
    bound: str
    reason: str


def declared(text: str) -> list[Dependency]:
    """Return the dependencies that the text of a pyproject.toml declares, each with its reason.

    :raises ValueError: if one has no reason
    """
    found, table, group = [], "", ""
    for line in text.splitlines():
        if line.startswith("["):
            table, group = line.strip("[]"), ""
        elif begun := _LIST.match(line):
            group = begun[1]
        elif line == "]":
            group = ""
        elif (entry := _ENTRY.match(line)) and _has_dependencies(table, group) and entry["name"] != PROJECT:
            if not entry["reason"]:
                raise ValueError(f"{group}: {entry['name']} has no comment that says why it is needed")
            found.append(Dependency(group, entry["name"], entry["bound"], entry["reason"]))
    return found


def _has_dependencies(table: str, group: str) -> bool:
    of_table = {
        "build-system": group == BUILD,
        "project": group == ALWAYS,
        "project.optional-dependencies": bool(group),
    }
    return of_table.get(table, False)


def licence_of(name: str) -> str | None:
    """Return the licence of an installed package, by SPDX's identifier if it is known; None if it is not installed."""
    try:
        data = metadata(name)
    except PackageNotFoundError:
        return None
    classifiers = [
        line.rpartition(" :: ")[2] for line in data.get_all("Classifier") or [] if line.startswith("License")
    ]
    free_text = data.get("License") or ""
    candidates = [data.get("License-Expression"), *([free_text] if "\n" not in free_text else []), *classifiers]
    stated = [text.strip() for text in candidates if text and text.strip() and text != "OSI Approved"]
    return SPDX.get(stated[0].lower(), stated[0]) if stated else "not stated"


def page(dependencies: list[Dependency]) -> str:
    """Return the page."""
    lines = [
        "# Dependencies",
        "",
        "`make dependencies` writes this page: the direct dependencies as `pyproject.toml` declares them, with the",
        "licence that each package states. `constraints.txt` has the versions of all that the tests run with.",
    ]
    for group in dict.fromkeys([ALWAYS, *sorted({d.group for d in dependencies} - {ALWAYS, BUILD}), BUILD]):
        lines += [
            "",
            f"## {TITLES.get(group, f'Extra `{group}`')}",
            "",
            "| package | licence | reason |",
            "|---|---|---|",
        ]
        for dependency in dependencies:
            if dependency.group == group:
                licence = licence_of(dependency.name) or "not installed"
                lines.append(f"| `{dependency.name}{dependency.bound}` | {licence} | {dependency.reason} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(declared((CHECKOUT / "pyproject.toml").read_text())))
    print(f"== wrote {PAGE.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main()
