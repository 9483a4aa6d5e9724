"""Import a module of a large package without all that the package's `__init__` would load.

`google.cloud.aiplatform_v1` imports some thirty services and all their types for the one that is needed. In version
2.7.0 of google-cloud-aiplatform, on Python 3.11, that takes 0.9 s of CPU and 73 MiB. `NotebookService` alone takes
0.2 s and 11 MiB, in each process that runs a task. The variable ``NBJOB_LAZY_PACKAGES=0`` turns this off.

A package that is imported lazily runs its `__init__` when somebody asks for a name that only `__init__` defines. So
code in this process that uses the whole package finds it unchanged.

papermill is the other one: the module that writes parameters needs none of what executes notebooks.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# The dunder names that an `__init__` defines. Looking for any other must load nothing.
DEFINED = ("__all__", "__version__")


@contextmanager
def lazy_packages(*names: str) -> Iterator[None]:
    """Within this context, import the packages of these names without their `__init__`, unless they are loaded already.

    :param names: full names, a package before those below it
    """
    if os.environ.get("NBJOB_LAZY_PACKAGES") == "0":
        yield
        return
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        for name in names:
            # Given the package's name, Python waits for a thread that is loading it. Given a module in it, it does not.
            importlib.import_module(name)
        yield
    finally:
        sys.meta_path.remove(finder)


class _Package(ModuleType):
    """A package whose `__init__` has not run."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in DEFINED:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if find_spec(f"{self.__name__}.{name}"):
            return importlib.import_module(f"{self.__name__}.{name}")
        return getattr(self._run_init(), name)

    def __dir__(self) -> list[str]:
        self._run_init()
        return dir(self)

    def _run_init(self) -> ModuleType:
        # As a module of its own name it runs once, by Python's own locks, however many threads ask.
        init = importlib.import_module(f"{self.__name__}.__init__")
        vars(self).update({k: v for k, v in vars(init).items() if not k.startswith("__") or k in DEFINED})
        self.__class__ = ModuleType  # type: ignore[assignment]
        return init


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__:
            module.__spec__.loader = module.__loader__ = self._loader
        module.__class__ = _Package


class _Finder(MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec and spec.loader and spec.submodule_search_locations:
            spec.loader = _Loader(spec.loader)
            return spec
        return None
