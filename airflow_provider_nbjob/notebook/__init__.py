"""The notebook itself: its source, its parameters, and what it came to. Knows neither Airflow nor Google."""

# Here, because the operators' modules need these and nothing else of the room while a DAG is parsed.
RESULT_MAX_BYTES = 48 * 1024  # of all results together, as JSON
OUTPUT_MAX_BYTES = 256 * 1024 * 1024  # of an executed notebook that is read
OUTPUT_SECONDS = 60.0  # that looking for an executed notebook, and reading it, may take over all requests
ON_OUTPUT_ERROR = ("fail", "warn")  # what a task may do if it could not be read; the default is between the two
SOURCE_MAX_BYTES = 64 * 1024 * 1024  # of a notebook that is to run; the API's own limits are far below
