"""A shared fixture is built once more before it fails, and then says what its components wrote last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.fixtures import LOG_LINES, DidNotStart, built


class Maker:
    """Make a fixture that fails some times.

    :param failures: how often it fails before it succeeds
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.suffixes: list[str] = []
        self.ended: list[str] = []

    @contextmanager
    def __call__(self, suffix: str) -> Iterator[str]:
        self.suffixes.append(suffix)
        if len(self.suffixes) <= self.failures:
            raise DidNotStart(f"attempt {len(self.suffixes)}", [])
        yield "built"
        self.ended.append(suffix)


def test_what_is_built_is_not_built_twice():
    make = Maker(failures=0)
    with built(make) as value:
        assert (value, make.ended) == ("built", [])
    assert (make.suffixes, make.ended) == ([""], [""])


def test_one_failure_is_tried_again_under_another_name():
    make = Maker(failures=1)
    with built(make) as value:
        assert value == "built"
    assert (make.suffixes, make.ended) == (["", "-again"], ["-again"])


def test_the_second_failure_is_final():
    make = Maker(failures=2)
    with pytest.raises(DidNotStart, match="attempt 2"), built(make):
        pass
    assert make.suffixes == ["", "-again"]


def test_a_test_that_fails_in_it_does_not_build_it_again():
    make = Maker(failures=0)
    with pytest.raises(ValueError, match="of the test"), built(make):
        raise ValueError("of the test")
    assert make.suffixes == [""]


def test_an_interrupt_is_not_tried_again():
    attempts = []

    def interrupted(suffix: str):
        attempts.append(suffix)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), built(interrupted):
        pass
    assert attempts == [""]


def test_the_failure_has_the_end_of_each_log(tmp_path):
    log = tmp_path / "scheduler.log"
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(1, 201)))
    message = str(DidNotStart("Airflow", [log, tmp_path / "triggerer.log"]))
    shown = [line for line in message.splitlines() if line.startswith("line ")]
    assert (len(shown), shown[0].split()[1], shown[-1].split()[1]) == (LOG_LINES, "151", "200")
    assert message.startswith("Airflow did not start\n")
    assert "triggerer.log: not written" in message
