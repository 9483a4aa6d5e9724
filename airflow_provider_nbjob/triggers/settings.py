"""Read the provider's options from Airflow's configuration where a bad value must not end what runs."""

from __future__ import annotations

import logging

from airflow.providers.common.compat.sdk import conf

log = logging.getLogger(__name__)


def whole_number(option: str, *, default: int, least: int) -> int:
    """Return an option of `[nbjob]`; a value that is no whole number, or too low, is an error in the log.

    :param default: if there is no value, or a bad one
    :param least: the lowest value
    """
    try:
        configured = conf.getint("nbjob", option, fallback=default)
        if configured is not None and configured >= least:
            return int(configured)
        problem = f"{configured} is below {least}"
    except Exception as error:  # a text, a variable of Airflow's that cannot be expanded, a command that fails
        problem = str(error)
    log.error("[nbjob] %s is not valid, so it is %s: %s", option, default, problem)
    return default
