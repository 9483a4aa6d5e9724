"""The figures of the jobs that wait, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KINDS = {"ours": "#1a73e8", "custom training": "#f9ab00", "hyperparameter tuning": "#d93025"}
LEAST = 0.1
PANELS = {
    "API calls a minute": "calls_per_minute",
    "CPU seconds a minute, above idle": "cpu_above_idle",
    "memory, MB": "rss_growth_mb",
}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a picture of bars, a panel for each figure, on logarithmic scales.

    :param path: its suffix says the format
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    numbers = sorted({row["waiting"] for row in rows})
    by = {(row["kind"], row["waiting"]): row for row in rows}
    figure, panels = plt.subplots(1, len(PANELS), figsize=(13, 3.4), layout="constrained")
    for panel, (title, key) in zip(panels, PANELS.items(), strict=True):
        for index, (kind, color) in enumerate(KINDS.items()):
            found = [(at, by.get((kind, number), {}).get(key)) for at, number in enumerate(numbers)]
            shown = [(at + 0.28 * (index - 1), value) for at, value in found if value is not None]
            heights = [max(value, LEAST) for _, value in shown]  # a logarithm has no zero
            bars = panel.bar([at for at, _ in shown], heights, 0.26, color=color)
            panel.bar_label(
                bars, [f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for _, value in shown], fontsize=6
            )
        panel.set_yscale("log")
        panel.minorticks_off()
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(numbers)), [f"{number:,}" for number in numbers], fontsize=8)
        panel.set_xlabel("deferred jobs", fontsize=8)
        panel.tick_params(axis="y", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.15)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in KINDS.values()]
    names = ["this provider", "Google's custom training trigger", "Google's hyperparameter tuning trigger"]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def _label(value: float) -> str:
    if value < LEAST:
        return f"<{LEAST}"  # no more than the sleeping triggers that it is compared with
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
