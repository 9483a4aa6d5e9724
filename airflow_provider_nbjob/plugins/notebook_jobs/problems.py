"""What a viewer is told of an error: what went wrong, and nothing of the API server it went wrong on."""

from __future__ import annotations

from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.plugins.notebook_jobs.hidden import TooManySecrets
from airflow_provider_nbjob.rendering import NotRendered, RendererMissing

IN_THE_LOG = "the API server's log says why."
# Of whose errors the messages come from Google, or are this provider's own.
_TELLING = ("google.api_core.", "grpc.", "airflow_provider_nbjob.")
# How gRPC quotes an error of google.auth, as an answer of the API.
_NO_CREDENTIALS = "metadata from plugin failed"


def public_message(error: BaseException) -> str:
    """Return what a viewer may know of an error.

    The message of anything but Google's answers and this provider's own checks may have paths of files, addresses
    within the network, or parts of a key in it, as those of `google.auth` have: it is for the log.
    """
    ours = isinstance(error, NotebookExecutionJobError | NotRendered | RendererMissing | TooManySecrets)
    is_late = any("Timeout" in type(cause).__name__ for cause in (error, *_causes(error)))
    if isinstance(error, NotebookExecutionJobError) and error.public_message:
        return redact(f"{error.public_message}{' It timed out.' if is_late else ''}")
    is_ours_to_tell = all(_module(cause).startswith(_TELLING) for cause in _causes(error))
    if ours and is_ours_to_tell and _NO_CREDENTIALS not in str(error):
        return redact(str(error))
    if is_late:
        return "Google Cloud could not be asked: it timed out."
    is_of_auth = any(_module(cause).startswith("google.auth.") for cause in (error, *_causes(error)))
    if is_of_auth or _NO_CREDENTIALS in str(error):
        return f"Google Cloud could not be asked, as the API server has no valid credentials for it; {IN_THE_LOG}"
    return f"Google Cloud could not be asked; {IN_THE_LOG}"


def _module(error: BaseException) -> str:
    return f"{type(error).__module__}."


def _causes(error: BaseException) -> list[BaseException]:
    """Return the errors that led to one, as far as they say so."""
    causes: list[BaseException] = []
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) and len(causes) < 9:
        causes.append(cause)
        error = cause
    return causes
