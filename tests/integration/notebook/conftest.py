"""Kernels in this process's environment, which leave nothing in the home of whoever runs the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of its own for IPython's profile and bash's history."""
    with pytest.MonkeyPatch.context() as environment:
        folder = str(tmp_path_factory.mktemp("home"))
        for name in ("HOME", "IPYTHONDIR"):
            environment.setenv(name, folder)
        yield
