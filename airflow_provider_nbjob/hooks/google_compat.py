"""All that is used of Airflow's Google provider beside its public API, read in version 22.8.0."""

from __future__ import annotations

from typing import Any

from airflow.providers.google.common.hooks.base_google import GoogleBaseHook, get_field

# `GoogleBaseHook.get_credentials_and_project_id` keeps credentials in it. There is no public way to drop them.
_CACHED = "_cached_credentials"


def connection_field(hook: GoogleBaseHook, name: str) -> Any:
    """Return a field of the extra of a hook's connection, under its short or its prefixed name, or None."""
    return get_field(hook.extras, name)


def cached_credentials(hook: GoogleBaseHook) -> Any:
    """Return the credentials that a hook keeps, or None if it has not asked for any yet."""
    return getattr(hook, _CACHED, None)


def forget_credentials(hook: GoogleBaseHook) -> None:
    """Have a hook ask for its credentials again."""
    setattr(hook, _CACHED, None)
