"""The runs that the tests of the UI look at."""

from __future__ import annotations

# As text it is harmless; as markup it would tell of itself.
MARKUP = """<img src=x onerror="document.title='TRIPPED'">"""
# The characters that a URL needs encoded. Not `%`, `/` and `?`: with them Airflow does not find the run itself.
ODD_RUN_ID = "odd+run: a&b=c é"
FINISHED = {
    "hostile": ("hostile", "as_text", "failed"),
    "report": ("report", "a_success", "success"),
    "odd": ("report", ODD_RUN_ID, "success"),
    "private": ("private_report", "a_secret", "success"),
    "failing": ("failing", "a_failure", "failed"),
    "mapped": ("mapped", "three", "failed"),
    "retried": ("retried", "two_tries", "success"),
    "unreachable": ("unreachable", "no_answer", "failed"),
    "another": ("another", "no_notebook", "success"),
}
