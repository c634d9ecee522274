"""Pictures of studies, as PNG. matplotlib is loaded here alone, and draws into files without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketforge.figures import new_figure, save_figure
from pocketforge.outcomes.layers import LayerStudy
from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.pruning.sensitivity import costs

# Okabe & Ito's colours: told apart by colour-blind readers too. With a marker of its own for each.
_LOOK = {
    "channels": ("#0072B2", "o"),
    "layers": ("#D55E00", "s"),
    "unstructured": ("#009E73", "^"),
    "both": ("#CC79A7", "D"),
}
_ENDS = ("low", "high")
_UNITS = {"parameters": "parameters", "macs": "MACs"}


def heat_map(study: SensitivityOutcome, chosen: Mapping[str, float], path: Path) -> Path:
    """Layers × ratios of a sensitivity study: accuracy lost (or the loss's relative rise); chosen ratios are framed."""
    ratios, layers = study.ratios, study.layers
    by_accuracy = study.baseline.accuracy_top1 is not None
    values = [[cost if math.isfinite(cost) else math.nan for cost in costs(study.baseline, row)] for row in layers]
    figure, axes = new_figure(2.5 + 0.75 * len(ratios), 1.6 + 0.3 * len(layers))
    top = max([v for row in values for v in row if not math.isnan(v)] + [1e-6])
    image = axes.imshow(values, cmap=_colours(), vmin=0, vmax=top, aspect="auto")
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axes.set_yticks(range(len(layers)), [f"{row.name} ({row.channels})" for row in layers], fontsize=8)
    axes.set_xlabel("share of the layer's channels removed")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            words = "–" if math.isnan(value) else f"{value:.3f}"
            axes.text(x, y, words, ha="center", va="center", fontsize=7, color="white" if value > top / 2 else "black")
        ratio = chosen.get(layers[y].name, 0.0)
        if ratio in ratios:
            axes.add_patch(_frame(ratios.index(ratio), y))
    lost = "top-1 lost" if by_accuracy else "relative rise of the loss"
    axes.set_title("One layer pruned at a time; framed: what ratio = auto takes", fontsize=9)
    figure.colorbar(image, ax=axes, label=lost)
    return save_figure(figure, path)


def _colours() -> Any:
    """Dark is dear; grey is what could not be pruned."""
    from matplotlib import colormaps

    return colormaps["viridis_r"].with_extremes(bad="lightgrey")


def _frame(x: int, y: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="#D55E00", linewidth=2)


def accuracy_by_share(found: Mapping[str, Any], basis: str, path: Path) -> Path:
    """Top-1 against the share that was really removed: after fine-tuning (with intervals), and before it (dotted)."""
    figure, axes = new_figure(7, 4.6)
    for method, (colour, marker) in _LOOK.items():
        rows = _rows(found, basis, method)
        if not rows:
            continue
        shares = [row["removed"][basis] for row in rows]
        _points(axes, shares, [row["accuracy_after"] for row in rows], colour, marker, method)
        before = [row["accuracy_before"]["mean"] for row in rows]
        axes.plot(shares, before, color=colour, linestyle=":", linewidth=1, alpha=0.7)
    axes.axhline(found["baseline"]["accuracy"], color="grey", linewidth=1, linestyle="--", label="unpruned")
    axes.set_xlabel(f"share of {_UNITS[basis]} removed (as reached)")
    axes.set_ylabel("top-1 on eval samples")
    axes.set_title(f"{found['recipe']}: solid after fine-tuning, dotted before", fontsize=10)
    return _finish(figure, axes, path)


def accuracy_by_latency(found: Mapping[str, Any], runtime: str, path: Path) -> Path:
    """Top-1 after fine-tuning against latency, as a share of the unpruned model's in the same sitting; bars are
    95 % intervals.
    """
    figure, axes = new_figure(7, 4.6)
    for basis, line in (("parameters", "-"), ("macs", "--")):
        for method, (colour, marker) in _LOOK.items():
            rows = [row for row in _rows(found, basis, method) if runtime in row["latency"]]
            rows.sort(key=lambda row: row["latency"][runtime]["ratio"])
            if rows:
                times = [row["latency"][runtime] for row in rows]
                wide = [[0.0 if t["high"] is None else abs(t[end] - t["ratio"]) for t in times] for end in _ENDS]
                axes.errorbar([t["ratio"] for t in times], [row["accuracy_after"]["mean"] for row in rows],
                              xerr=wide, fmt="none", ecolor=colour, alpha=0.4)  # fmt: skip
                ratios = [time["ratio"] for time in times]
                accuracies = [row["accuracy_after"] for row in rows]
                _points(axes, ratios, accuracies, colour, marker, f"{method}, by {_UNITS[basis]}", line)
    axes.scatter([1.0], [found["baseline"]["accuracy_finetuned"]["mean"]], color="grey", marker="*", s=90, zorder=3)
    place = (1.0, found["baseline"]["accuracy_finetuned"]["mean"])
    axes.annotate("unpruned", place, xytext=(4, 6), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"host latency in {runtime} ÷ the unpruned model's")
    axes.set_ylabel("top-1 on eval samples after fine-tuning")
    axes.set_title(f"{found['recipe']}: up and to the left is better", fontsize=10)
    return _finish(figure, axes, path)


def _rows(found: Mapping[str, Any], basis: str, method: str) -> list[Mapping[str, Any]]:
    rows = [r for r in found["rows"] if r["method"] == method and r["basis"] == basis and r["seeds"]]
    return sorted(rows, key=lambda row: float(row["removed"][basis]))


def _points(
    axes: Any,
    places: Sequence[float],
    means: Sequence[Mapping[str, Any]],
    colour: str,
    marker: str,
    label: str,
    line: str = "-",
) -> None:
    halves = [0.0 if m["high"] is None else m["high"] - m["mean"] for m in means]
    heights = [m["mean"] for m in means]
    axes.errorbar(
        places, heights, yerr=halves, color=colour, marker=marker, markersize=5, linestyle=line, linewidth=1.4,
        capsize=3, label=label,
    )  # fmt: skip


def _finish(figure: Any, axes: Any, path: Path) -> Path:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save_figure(figure, path)


_QUANTIZERS = {
    "uniform": ("#0072B2", "o"),
    "uniform per channel": ("#009E73", "^"),
    "quantile": ("#D55E00", "s"),
    "k-means": ("#CC79A7", "D"),
}


def accuracy_by_size(found: Mapping[str, Any], path: Path) -> Path:
    """The metric against the packed size of the weights, a line for each quantizer, a point for each number of bits."""
    figure, axes = new_figure(7, 4.6)
    for name, (colour, marker) in _QUANTIZERS.items():
        rows = sorted((row for row in found["rows"] if row["quantizer"] == name), key=lambda row: int(row["bits"]))
        sizes, heights = [row["packed_bytes"] / 1000 for row in rows], [row["accuracy"] for row in rows]
        axes.plot(sizes, heights, color=colour, marker=marker, markersize=5, linewidth=1.4, label=name)
        for row, size, height in zip(rows, sizes, heights, strict=True):
            axes.annotate(
                f"{row['bits']}", (size, height), xytext=(3, 4), textcoords="offset points", fontsize=7, color=colour
            )
    axes.axhline(found["float"]["accuracy"], color="grey", linewidth=1, linestyle="--", label="float32")
    axes.set_xlabel(f"packed weights in kB (float32: {found['float']['bytes'] / 1000:.0f})")
    axes.set_ylabel(f"{found['metric']} on eval samples")
    axes.set_title(f"{found['recipe']}: weights quantized, not trained after; numbers are bits", fontsize=10)
    return _finish(figure, axes, path)


def layer_bars(study: LayerStudy, path: Path) -> Path:
    """SQNR of the model's output with only one layer in int8, layer by layer; all layers in int8 as a line."""
    names = [layer.name for layer in study.layers]
    figure, axes = new_figure(7, 1.4 + 0.22 * len(names))
    axes.barh(range(len(names)), [layer.only_quantized.sqnr_db for layer in study.layers], color="#0072B2")
    axes.axvline(study.all_quantized.sqnr_db, color="#D55E00", label="all layers in int8")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"output SQNR in dB with only that layer in int8 ({study.samples} samples)")
    return _finish(figure, axes, path)
