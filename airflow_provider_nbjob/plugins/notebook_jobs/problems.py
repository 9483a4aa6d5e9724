"""Write errors for a viewer of a page, without details of the API server."""

from __future__ import annotations

from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.plugins.notebook_jobs.hidden import TooManySecrets
from airflow_provider_nbjob.rendering import NotRendered, RendererMissing

IN_THE_LOG = "the API server's log says why."
# Modules whose errors have messages of Google's services or of this provider.
_TELLING = ("google.api_core.", "grpc.", "airflow_provider_nbjob.")
# gRPC reports an error of google.auth with this text, as if the API had answered it.
_NO_CREDENTIALS = "metadata from plugin failed"


def public_message(error: BaseException) -> str:
    """Return a message of an error that a viewer may see.

    Only messages of Google's services and of this provider's own checks are shown. Others may contain paths of files,
    addresses within the network, or parts of a key, as those of `google.auth` do. They belong in the log.
    """
    ours = isinstance(error, NotebookExecutionJobError | NotRendered | RendererMissing | TooManySecrets)
    is_late = any("Timeout" in type(cause).__name__ for cause in (error, *_causes(error)))
    if isinstance(error, NotebookExecutionJobError) and error.public_message:
        return str(redact(f"{error.public_message}{' It timed out.' if is_late else ''}"))
    is_ours_to_tell = all(_module(cause).startswith(_TELLING) for cause in _causes(error))
    if ours and is_ours_to_tell and _NO_CREDENTIALS not in str(error):
        return str(redact(str(error)))
    if is_late:
        return "Google Cloud could not be asked: it timed out."
    is_of_auth = any(_module(cause).startswith("google.auth.") for cause in (error, *_causes(error)))
    if is_of_auth or _NO_CREDENTIALS in str(error):
        return f"Google Cloud could not be asked, as the API server has no valid credentials for it; {IN_THE_LOG}"
    return f"Google Cloud could not be asked; {IN_THE_LOG}"


def _module(error: BaseException) -> str:
    return f"{type(error).__module__}."


def _causes(error: BaseException) -> list[BaseException]:
    """Return the errors that caused one, as Python shows them in a traceback."""
    causes: list[BaseException] = []
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) and len(causes) < 9:
        causes.append(cause)
        error = cause
    return causes
