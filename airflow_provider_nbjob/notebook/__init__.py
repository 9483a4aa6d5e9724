"""The notebook itself: its source, its parameters, and what it came to. Knows neither Airflow nor Google."""

# Here, because the operators' modules need these two and nothing else of the room while a DAG is parsed.
RESULT_MAX_BYTES = 48 * 1024  # of all results together, as JSON
OUTPUT_MAX_BYTES = 256 * 1024 * 1024  # of an executed notebook that is read
