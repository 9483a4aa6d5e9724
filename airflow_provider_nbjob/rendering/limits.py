"""Limit the size of notebooks and pages, for the process that starts the renderer and for the renderer."""

from __future__ import annotations

MIB = 1024 * 1024
# Browsers become slow if a page is larger. The renderer needs 8 times the size of the notebook for text and images, and
# up to 33 times for one HTML table: that just fits `MEMORY_MAX_BYTES`.
NOTEBOOK_MAX_BYTES = 32 * MIB
RENDERED_MAX_BYTES = 48 * MIB  # of the document; colours and tables can make it larger than its notebook
MEMORY_MAX_BYTES = 1024 * MIB  # address space of the process that renders
