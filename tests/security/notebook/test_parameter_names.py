"""No parameter has the name of a variable that a notebook's language acts on; names come from `dag_run.conf`."""

from __future__ import annotations

import json

import pytest

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.notebook.parameters import parameterize

REFUSED = {
    "bash": """PATH HOME IFS ENV CDPATH GLOBIGNORE PROMPT_COMMAND PS0 PS1 PS2 PS3 PS4 SHELLOPTS SHELL TMPDIR EDITOR
        PAGER BASH_ENV BASHOPTS BASH_ALIASES BASH_CMDS BASH_XTRACEFD BASH_LOADABLES_PATH LD_PRELOAD LD_AUDIT
        LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES PYTHONSTARTUP PYTHONPATH PYTHONHOME PYTHONWARNINGS PERL5OPT PERL5LIB
        RUBYOPT NODE_OPTIONS JAVA_TOOL_OPTIONS _JAVA_OPTIONS GIT_SSH_COMMAND GIT_EXTERNAL_DIFF SSH_ASKPASS LESSOPEN
        HISTFILE INPUTRC http_proxy HTTPS_PROXY GCONV_PATH LC_ALL CLOUDSDK_CONFIG GOOGLE_APPLICATION_CREDENTIALS TZ _
        UID histchars""",
    "python": """__builtins__ __import__ __name__ __file__ __loader__ __debug__ _ __ ___ _1 _i _ii _i12 _ih _oh _dh In
        Out get_ipython exit quit \uff3f\uff3fbuiltins\uff3f\uff3f __\U0001d41builtins__ g\uff45t_ipython""",
    "julia": "ENV LOAD_PATH Base Core Main include eval ans ARGS",
    "scala": "scala java sys interp kernel Predef",
}
ALLOWED = {
    "bash": "day DAY REGION BUCKET epochs n x PATHS HOMEPAGE PROMPT S3_PATH MY_PYTHONPATH TABLE ZONE env",
    "python": "day PATH input id type format filter min max _private __x x__ In_ out PROMPT_COMMAND date",
    "julia": "day ENVIRONMENT base",
    "scala": "day Scala spark",
    "R": "day T c data",
}


def notebook(language):
    metadata = {"language_info": {"name": language}}
    return json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def pairs(names):
    return [
        pytest.param(language, name, id=f"{language}-{name!a}")
        for language in names
        for name in names[language].split()
    ]


@pytest.mark.parametrize(("language", "name"), pairs(REFUSED))
def test_a_name_that_the_runtime_acts_on_is_refused(language, name):
    for value in ("touch /tmp/x", ["touch /tmp/x"], 1, None):
        with pytest.raises(
            InvalidJob, match=r"acts on; rename the parameter|is not a name|cannot be a name"
        ) as refused:
            parameterize(notebook(language), {"day": "2026-01-01", name: value})
        assert [problem for problem in refused.value.problems if problem.startswith("parameters['day'")] == []


@pytest.mark.parametrize(("language", "name"), pairs(ALLOWED))
def test_any_other_name_is_a_parameter(language, name):
    assert name.encode() in parameterize(notebook(language), {name: "1"}).content
