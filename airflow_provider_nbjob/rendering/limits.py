"""How large what is rendered may be: known to the process that asks and to the one that renders."""

from __future__ import annotations

MIB = 1024 * 1024
# Browsers get slow with more than that in one page. The renderer takes from 8 times the notebook, for text and images,
# to 33 times, for one table of HTML: that just fits the memory it may have.
NOTEBOOK_MAX_BYTES = 32 * MIB
RENDERED_MAX_BYTES = 48 * MIB  # of the document; colours and tables can make it larger than its notebook
MEMORY_MAX_BYTES = 1024 * MIB  # address space of the process that renders
