"""Hold the scripts that tests give: a job that one matches ends as the script says, without a kernel."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.emulator.sources import output_name
from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.job.checks import problems_of
from airflow_provider_nbjob.job.labels import LABEL_VALUE_MAX, label_value

if TYPE_CHECKING:
    from airflow_provider_nbjob.emulator.messages import JobMessage

SCRIPTS_MAX = 1_000
TEXT_MAX = 10_000  # characters
RESULTS_MAX = 2**20  # bytes of all results as JSON
SECONDS_MAX = 3_600
CELLS_MAX = 100_000
TASK_LABEL = "airflow-task"  # see `job.labels`

_PREFIX = "JOB_STATE_"
_TERMINAL = [state.value.removeprefix(_PREFIX) for state in JobState if state.is_terminal]
_ERROR = re.compile(r"(?P<ename>[A-Za-z_][A-Za-z0-9_.]*)(?:: (?P<evalue>.*))?", re.DOTALL)
_WILDCARDS = "*?[]!"
# Of a mapped task: the provider's default display name is `{dag_id}.{task_id} [{map_index}] {run_id}`.
_MAP_INDEX = re.compile(r" \[([0-9]+)\] ")


@dataclass(frozen=True)
class Script:
    """The end of the jobs that it matches, and their executed notebook.

    :param job: matches a job's task id, its display name, or the path or the file name of its notebook; ``*``, ``?``
        and ``[...]`` are wildcards. None: all jobs that no other script matches
    :param map_index: of the task instance; None for each. It is read from the display name that the provider gives
    :param state: terminal state, with or without ``JOB_STATE_``. Default: FAILED if there is a `cell`, an `error` or a
        `message`, else SUCCEEDED
    :param cell: number of the cell that raises, among all cells of the notebook that is run, from 1. Default: the last
        code cell if there is an `error`, or if the state is FAILED and there is no `message`
    :param error: exception that the cell raises, such as ``"KeyError"`` or ``"KeyError: 'west'"``
    :param results: values by name, which the notebook hands out as scrapbook's `glue` does
    :param seconds: time that the job runs, at most an hour; default 0
    :param message: status message of a job that did not succeed. If no cell raises, the job ends before its notebook
        runs, and there is no executed notebook
    :param times: number of jobs that the script is used for; None for all
    :raises ValueError: with one message for each problem, which names the field, the value and the rule
    """

    job: str | None = None
    map_index: int | None = None
    state: str | None = None
    cell: int | None = None
    error: str | None = None
    results: Mapping[str, Any] | None = None
    seconds: float = 0.0
    message: str | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if problems := [*problems_of(values, _RULES), *self._contradictions()]:
            raise ValueError("; ".join(problems))

    @classmethod
    def from_json(cls, body: object) -> Script:
        """Read a script from a request's body.

        :raises ValueError: as for the constructor, and if there is a field of another name
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(body, Mapping) or set(body) - set(known):
            raise ValueError(f"a script is an object with the fields {', '.join(known)}, not {names.shown(body)}")
        return cls(**body)

    @property
    def end(self) -> JobState:
        """Return the state in which jobs end."""
        is_failure = (self.cell, self.error, self.message) != (None, None, None)
        state = self.state or ("FAILED" if is_failure else "SUCCEEDED")
        return JobState(state if state.startswith(_PREFIX) else f"{_PREFIX}{state}")

    @property
    def has_failing_cell(self) -> bool:
        """Return whether a cell raises."""
        is_given = self.cell is not None or self.error is not None
        return is_given or (self.end is JobState.FAILED and self.message is None)

    @property
    def has_notebook(self) -> bool:
        """Return whether there is an executed notebook."""
        return self.has_failing_cell or self.message is None

    @property
    def exception(self) -> tuple[str, str]:
        """Return the name and the text of the exception that the cell raises."""
        match = _ERROR.fullmatch(self.error or "RuntimeError: A script has this cell fail.")
        assert match is not None  # noqa: S101 - it was checked when the script was made
        return match["ename"], match["evalue"] or ""

    def matches(self, job: JobMessage) -> bool:
        """Return whether the script is for a job."""
        if self.map_index is not None:
            found = _MAP_INDEX.search(job.display_name)
            if found is None or int(found[1]) != self.map_index:
                return False
        if self.job is None:
            return True
        uri = job.gcs_notebook_source.uri
        known = {job.display_name, output_name(job), *([uri] if uri else [])}
        if any(self.job == name or fnmatchcase(name, self.job) for name in known):
            return True
        # A label has no upper-case letters and no dots, so the pattern must have none either.
        pattern = "".join(c if c in _WILDCARDS else label_value(c) for c in self.job)
        return any(fnmatchcase(task, pattern) for task in _tasks_of(job))

    def _contradictions(self) -> Iterator[str]:
        """Yield what fields say against each other; nothing if one of them is invalid by itself."""
        try:
            end = self.end
        except (TypeError, AttributeError):
            return
        if end is JobState.SUCCEEDED and self.message is not None:
            yield f"message: {names.shown(self.message)} is refused: a job that succeeds has no message"
        if self.results and not self.has_notebook:
            yield (
                f"results: {names.shown(self.results)} is refused: with a message and no failing cell, the notebook"
                " does not run"
            )


def _tasks_of(job: JobMessage) -> Iterator[str]:
    """Yield the id of a job's task, as its label has it.

    The label of a long id is cut. The whole id ends the first word of the provider's default display name; an
    end of that word is the id if its label is the job's.
    """
    label = job.labels.get(TASK_LABEL, "")
    yield label
    if len(label) == LABEL_VALUE_MAX:
        parts = job.display_name.partition(" ")[0].split(".")
        ends = (".".join(parts[first:]) for first in range(1, len(parts)))
        yield from ("".join(map(label_value, end)) for end in ends if label_value(end) == label)


class Scripts:
    """The scripts in effect. Of those that match a job, the first that is not used up is used.

    :param otherwise: for jobs that no script matches, until one without a `job` is added; None: they run for real
    """

    def __init__(self, otherwise: Script | None = None) -> None:
        self._lock = threading.Lock()
        self._otherwise = otherwise
        self._standing: list[_Standing] = []

    def add(self, script: Script) -> None:
        """Put a script into effect.

        :raises ValueError: if `SCRIPTS_MAX` scripts are in effect
        """
        with self._lock:
            if len(self._standing) >= SCRIPTS_MAX:
                raise ValueError(f"{SCRIPTS_MAX} scripts stand already")
            self._standing.append(_Standing(script))

    def clear(self) -> None:
        """Remove all scripts."""
        with self._lock:
            self._standing.clear()

    def standing(self) -> list[dict[str, Any]]:
        """Return the scripts in effect, with the number of jobs that each was `used` for, and its `problems`."""
        with self._lock:
            return [
                {**asdict(kept.script), "used": kept.used, "problems": list(kept.problems)} for kept in self._standing
            ]

    def take(self, job: JobMessage) -> Script | None:
        """Return the script to use for a job, or None if there is none."""
        with self._lock:
            matching = [kept for kept in self._standing if kept.is_left and kept.script.matches(job)]
            # Python's sort is stable: the others stay in the order that they were added.
            for kept in sorted(matching, key=lambda kept: kept.script.job is None):
                kept.used += 1
                return kept.script
            return self._otherwise

    def report(self, script: Script, problem: str) -> None:
        """Note that a script could not be used for a job that it matched."""
        with self._lock:
            for kept in self._standing:
                if kept.script is script:
                    kept.problems.append(problem)


@dataclass
class _Standing:
    """A script in effect, and its use so far."""

    script: Script
    used: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_left(self) -> bool:
        return self.script.times is None or self.used < self.script.times


# --- rules of the fields ---


def _text(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        yield f"{names.shown(value)} is of type {type(value).__name__}; it must be a text that is not empty"
    elif len(value) > TEXT_MAX:
        yield f"{names.shown(value)} has {len(value)} characters; it may have {TEXT_MAX}"
    elif any("\ud800" <= character <= "\udfff" for character in value):
        yield f"{names.shown(value)} is no UTF-8; it must be a text that can be written"


def _state(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or value.removeprefix(_PREFIX) not in _TERMINAL:
        yield f"{names.shown(value)} is no terminal state; it must be one of {', '.join(_TERMINAL)}"


def _error(value: Any) -> Iterator[str]:
    problems = list(_text(value))
    yield from problems
    if not problems and not _ERROR.fullmatch(value):
        yield f"{names.shown(value)} is not of the form KeyError, or \"KeyError: 'west'\""


def _number(least: int, most: int, *, whole: bool = True) -> Callable[[Any], Iterator[str]]:
    kinds = (int,) if whole else (int, float)

    def rule(value: Any) -> Iterator[str]:
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:  # NaN is between no two numbers
            yield f"{names.shown(value)} is refused; it must be a {'whole ' * whole}number from {least} to {most}"

    return rule


def _results(value: Any) -> Iterator[str]:
    try:
        text = json.dumps(value, allow_nan=False)
        is_json = isinstance(value, Mapping) and json.loads(text) == value
    except (TypeError, ValueError, RecursionError):
        is_json = False
    if not is_json:
        yield f"{names.shown(value)} is not made of JSON values, in a dict with names as keys"
    elif len(text) > RESULTS_MAX:
        yield f"{names.shown(value)} has {len(text)} bytes as JSON; it may have {RESULTS_MAX}"
    elif "" in value:
        yield f"{names.shown(value)} has a result without a name"


def _optional(rule: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    """Return a rule that accepts None; the empty text is a value here."""
    return lambda value: iter(()) if value is None else rule(value)


_RULES = {
    "job": _optional(_text),
    "map_index": _optional(_number(0, 10**9)),
    "state": _optional(_state),
    "cell": _optional(_number(1, CELLS_MAX)),
    "error": _optional(_error),
    "results": _optional(_results),
    "seconds": _number(0, SECONDS_MAX, whole=False),
    "message": _optional(_text),
    "times": _optional(_number(1, 10**9)),
}
