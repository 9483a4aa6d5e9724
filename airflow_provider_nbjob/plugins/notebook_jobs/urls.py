"""Where the pages are."""

URL_PREFIX = "/notebook-jobs"
