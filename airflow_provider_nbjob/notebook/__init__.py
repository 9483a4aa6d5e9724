"""The notebook itself: its source, its parameters, and the executed notebook with its results.

This package imports neither Airflow nor a package of Google's.
"""

# These limits stand here because the operators' modules need nothing else of this package while a DAG is parsed.
RESULT_MAX_BYTES = 48 * 1024  # size of all results together, as JSON
OUTPUT_MAX_BYTES = 256 * 1024 * 1024  # size of an executed notebook that is read
OUTPUT_SECONDS = 60.0  # time to find and to read an executed notebook, over all requests
ON_OUTPUT_ERROR = ("fail", "warn")  # choices if the executed notebook cannot be read; the default, None, lies between
SOURCE_MAX_BYTES = 64 * 1024 * 1024  # size of a notebook that is to run; the API's own limits are far lower
