"""What tests of the command `doctor` run it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from scripts.processes import BUCKET

# Takes options, and returns the exit status and the findings by the name of the check.
Run: TypeAlias = Callable[..., tuple[int, dict[str, dict[str, Any]]]]
WHOLE = {
    "template": "a100",
    "output-uri": f"gs://{BUCKET}/runs",
    "source": f"gs://{BUCKET}/notebooks/daily_report.ipynb",
    "service-account": "train@my-project.iam.gserviceaccount.com",
}
