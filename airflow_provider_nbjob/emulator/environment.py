"""Make the environment of the processes that run notebooks from an allow-list, not from all of the emulator's.

A shell's environment holds secrets (Airflow's connections and Fernet key, cloud keys) that no notebook of the real
service would see. The option ``--env`` adds variables that a notebook needs beside this list.

Notebooks run as the user who started the emulator, and can read all that this user can, ``/proc`` included. The
allow-list keeps secrets out of the outputs, logs and crash reports of notebooks that do not search for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

# Proxies are missing on purpose: their URLs hold passwords.
ALLOWED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM"),  # the user, and the folders of programs
        *("LANG", "LANGUAGE", "TZ"),  # with all LC_*: encoding, messages and time
        *("TMPDIR", "TMP", "TEMP"),
        *("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_PREFER_ENV_PATH", "XDG_DATA_HOME"),  # the folders of kernels
        *("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"),  # the folders of packages, for Jupyter and for `!pip`
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),  # the interpreter may need them itself
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),  # a company's own authority
        *("R_HOME", "R_LIBS", "R_LIBS_SITE", "R_LIBS_USER", "JAVA_HOME"),
        *("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "JULIA_PROJECT"),
    }
)
# The process that runs the notebook finds this package by it. The kernel does not need the package, and does not get
# it.
OF_RUNNER = "PYTHONPATH"


def runner_environment(
    environment: Mapping[str, str], more: Iterable[str], cache: Path, additions: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the process that runs a notebook.

    :param environment: the emulator's own
    :param more: names of variables of it that are passed on, beside `ALLOWED`
    :param cache: folder for the history and the caches of kernels, which would otherwise go into the user's home
    :param additions: more variables, with their values
    """
    names = {*ALLOWED, OF_RUNNER, *more}
    kept = {name: value for name, value in environment.items() if name in names or name.startswith("LC_")}
    folders = {"IPYTHONDIR": "ipython", "MPLCONFIGDIR": "matplotlib", "JUPYTER_RUNTIME_DIR": "jupyter"}
    return {**kept, **{name: str(cache / folder) for name, folder in folders.items()}, **additions}


def hidden_from_kernel(more: Iterable[str]) -> list[str]:
    """Return the names of the variables that the runner has and the kernel has not."""
    return [] if OF_RUNNER in set(more) else [OF_RUNNER]
