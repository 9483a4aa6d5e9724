"""The error messages in the source of the package, with an ellipsis for what a run puts into them.

They are read from the source, and not made by running it: the texts of the package's errors, and those of the problems
that its rules report. The emulator's answers are Google's, and not among them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from airflow_provider_nbjob import exceptions
from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.lifecycle import final_errors
from tests.support.paths import PACKAGE

HOLE = "…"
# Errors that are no `NotebookExecutionJobError`, whose texts a person reads all the same: in the UI or in a log.
OTHER_ERRORS = {"NotJson", "NotOurs", "NotRendered", "Refused", "TookTooLong", "TooManySecrets"}
ERRORS = OTHER_ERRORS | {
    name
    for module in (exceptions, final_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, NotebookExecutionJobError)
}
# Modules with rules: their functions return or yield problems.
RULES = re.compile(
    r"arguments/(?!from_trigger)|job/|sensors/|names|notebook/(limits|parameters|secrets|values)|.*task_output"
)
PROBLEMS = ("Iterator[str]", "list[str]", "str | None")
_PROBLEMS = re.compile(r"[\w.]*problems( \+ [\w.]*problems)*")
LETTERS_MIN = 8  # of a message whose own text says something


class Message(NamedTuple):
    """A message, and where it is in the source."""

    text: str
    module: str
    line: int


@cache
def messages() -> tuple[Message, ...]:
    """Return the messages of all modules of the package."""
    found = (
        Message(_shortened(text), module, line)
        for module, tree in _modules()
        for text, line in _Reader(module, tree).read()
    )
    return tuple(message for message in found if _says_something(message.text))


@cache
def unread() -> tuple[str, ...]:
    """Return the source of each error that is made of no text that can be read, with its module."""
    return tuple(
        f"{module}: {ast.unparse(node)}"
        for module, tree in _modules()
        for node in ast.walk(tree)
        if _is_error(node)
        and not list(_Reader(module, tree).of_error(node))
        and not _PROBLEMS.fullmatch(ast.unparse(node.args[0]))  # which are messages themselves
    )


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if not module.startswith("emulator/"):
            yield module, _with_parents(path)


def _with_parents(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    return tree


class _Reader:
    """Reads the messages of one module."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._module = module
        self._tree = tree

    def read(self) -> Iterator[tuple[str, int]]:
        for node in ast.walk(self._tree):
            if _is_error(node):
                yield from ((text, node.lineno) for text in self.of_error(node))
            elif isinstance(node, ast.FunctionDef) and RULES.match(self._module) and self._reports(node):
                yield from self._of_rule(node)
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "_refuse"
                and node.args[1:]
            ):
                yield from ((text, node.lineno) for text in self._texts(node.args[1], node))

    def of_error(self, call: ast.Call) -> Iterator[str]:
        return self._texts(call.args[0], call)

    def _reports(self, function: ast.FunctionDef) -> bool:
        returns = ast.unparse(function.returns) if function.returns else ""
        return returns in PROBLEMS and (returns != "list[str]" or "problem" in function.name)

    def _of_rule(self, function: ast.FunctionDef) -> Iterator[tuple[str, int]]:
        for node in ast.walk(function):
            if isinstance(node, (ast.Yield, ast.Return)) and node.value and not isinstance(node.value, ast.Name):
                yield from ((text, node.lineno) for text in self._texts(node.value, node))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
                yield from ((text, node.lineno) for text in self._texts(node.args[0], node))
            elif isinstance(node, ast.AugAssign) or (
                isinstance(node, ast.Assign) and isinstance(node.value, ast.ListComp)
            ):
                yield from ((text, node.lineno) for text in self._texts(node.value, node))

    def _texts(self, node: ast.expr, at: ast.AST) -> Iterator[str]:
        """Yield the texts that an expression may have; none if it has no part that is written out."""
        if isinstance(node, ast.IfExp):
            yield from self._texts(node.body, at)
            yield from self._texts(node.orelse, at)
        elif isinstance(node, ast.BinOp):
            yield from self._texts(node.left, at)
            yield from self._texts(node.right, at)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value:
                yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
        elif isinstance(node, (ast.List, ast.Tuple)):
            for item in node.elts:
                yield from self._texts(item, at)
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            yield from self._texts(node.elt, at)
        elif (
            isinstance(node, ast.Call)
            and node.args
            and ast.unparse(node.func) in ("redact", "str", "list", r"'\n'.join")
        ):
            yield from self._texts(node.args[0], at)
        elif isinstance(node, ast.Name):
            for value in self._values_of(node.id, at):
                yield from self._texts(value, value)

    def _values_of(self, name: str, at: ast.AST) -> Iterator[ast.expr]:
        """Yield what a variable of the function, or a constant of the module, is assigned or appended."""
        scope = at
        while not isinstance(scope, (ast.FunctionDef, ast.Module)):
            scope = scope.parent  # type: ignore[attr-defined]
        for node in [*ast.walk(scope), *self._tree.body]:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
                if not isinstance(node.value, ast.Name):
                    yield node.value
            elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) == name:
                yield node.value
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.append":
                yield node.args[0]


def _is_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and bool(node.args)


def _says_something(text: str) -> bool:
    return " " in text and len(re.findall("[a-zA-Z]", text)) >= LETTERS_MIN


def _shortened(text: str) -> str:
    """Return the first line that says something, with one ellipsis for several."""
    lines = [line for line in text.splitlines() if re.search(r"[a-zA-Z]{2}", line)]
    return re.sub(rf"{HOLE}(\s*{HOLE})+", HOLE, lines[0] if lines else text).strip()


def pattern_of(documented: str) -> re.Pattern[str]:
    """Return the pattern of a message as the documentation has it: an ellipsis stands for any text."""
    return re.compile(".*".join(map(re.escape, documented.split(HOLE))))
