"""Charts of the results as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import Passes, title

OURS: Final = "#0b6e4f"
FLOOR: Final = "#8d99ae"
PEERS: Final = "#c9ada7"


def bars(passes: Passes, path: Path, *, caption: str) -> None:
    """Draw the ratios of each work, one row of panels for each number of workers."""
    works = list(dict.fromkeys(row.work for rows in passes.values() for row in rows))
    figure = _figure(width=13, height=3.6 * len(passes) + 0.6)
    panels = figure.subplots(len(passes), len(works), squeeze=False, sharey=True)
    for line, (workers, rows) in zip(panels, passes.items(), strict=True):
        line[0].set_ylabel(title(workers))
        for panel, work in zip(line, works, strict=True):
            bars_ = [row for row in rows if row.work == work]
            names = [row.contender for row in bars_]
            ratios = [row.ratio for row in bars_]
            spread = [
                [row.ratio - min(row.ratios) for row in bars_],
                [max(row.ratios) - row.ratio for row in bars_],
            ]
            panel.barh(names, ratios, xerr=spread, color=[_color(name) for name in names])
            for number, row in enumerate(bars_):
                text = f" {row.ratio:.2f}"
                panel.text(max(row.ratios), number, text, va="center", fontsize=9)
            panel.axvline(1, color="black", linewidth=0.8, linestyle=":")
            panel.set_xlim(0, 1.2 * max(1, *(max(row.ratios) for row in bars_)))
            panel.set_title(f"{work}, times the floor", fontsize=10)
            panel.spines[["top", "right"]].set_visible(False)
        line[0].invert_yaxis()
    figure.supxlabel(caption, fontsize=8, color="#555555")
    _save(figure, path)


def curves(
    series: Mapping[str, Mapping[int, float]], path: Path, *, ylabel: str, caption: str
) -> None:
    """Draw one line per name over sizes."""
    figure = _figure(width=10, height=6)
    panel: Any = figure.subplots()
    styles = ["-", "--", "-.", ":"]
    colors = mpl.color_sequences["tab10"]
    for number, (name, points) in enumerate(series.items()):
        panel.plot(
            list(points),
            list(points.values()),
            label=name,
            marker="o",
            markersize=3,
            linewidth=1.2,
            color=colors[number % len(colors)],
            linestyle=styles[number // len(colors) % len(styles)],
        )
    sizes: Sequence[int] = sorted({size for points in series.values() for size in points})
    panel.axhline(1.5, color="black", linewidth=0.8, linestyle=":")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(sizes, [f"{size:,} SKUs" for size in sizes])
    panel.minorticks_off()
    ticks = [0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500]
    panel.set_yticks(ticks, [str(tick) for tick in ticks])
    highest = max(value for points in series.values() for value in points.values())
    panel.set_ylim(0.45, max(3, 1.2 * highest))
    panel.set_ylabel(ylabel)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    figure.supxlabel(caption, fontsize=8, color="#555555")
    _save(figure, path)


def _figure(*, width: float, height: float) -> Figure:
    mpl.use("Agg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "inventory"
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


def _color(name: str) -> str:
    if name.startswith("this service"):
        return OURS
    return FLOOR if name.startswith("the floor") else PEERS
