"""The path of the plugin's pages."""

URL_PREFIX = "/notebook-jobs"
