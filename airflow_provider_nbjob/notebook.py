"""The `.ipynb`: what is read from one before it is submitted.

Pure: knows neither Airflow nor Google.
"""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_nbjob.exceptions import InvalidJob


def read_notebook(source: bytes | Path) -> bytes:
    """The JSON of a notebook, as it stands.

    It is checked against the schema of the Jupyter format, but not changed. No error quotes its content.

    :param source: the notebook's JSON, or the file that holds it
    :raises InvalidJob: where the file cannot be read, or is no valid notebook of format 4
    """
    import nbformat  # 0.2 s that only jobs with a direct source pay

    if isinstance(source, Path):
        label = f"{str(source)!r}"
        try:
            content = source.read_bytes()
        except FileNotFoundError:
            raise InvalidJob(f"{label}: there is no such file") from None
        except OSError as error:
            raise InvalidJob(f"{label} cannot be read: {error.strerror}") from None
    else:
        label, content = "the notebook", source
    try:
        notebook = json.loads(content)
    except ValueError as error:  # of JSON, and of the encoding
        raise InvalidJob(f"{label} is not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise InvalidJob(f"{label} is JSON but no notebook: it has no list of cells")
    if notebook.get("nbformat") != 4:
        raise InvalidJob(f"{label} is of notebook format {notebook.get('nbformat')!r}; the API runs format 4")
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
        raise InvalidJob(f"{label} is no valid notebook: {error.validator} is violated at {where or '.'}") from None
    return content
