"""All that is used of Airflow's Google provider, and of google-auth, beside their public APIs.

Read in versions 22.8.0 and 2.62.2.
"""

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


def source_credentials(credentials: Any) -> Any:
    """Return the credentials that impersonate, of those of an impersonated account; None if there are none."""
    return getattr(credentials, "_source_credentials", None)
