"""The notebook itself: its source, its parameters, and what it came to. Knows neither Airflow nor Google."""
