"""Pictures of studies, as PNG. matplotlib is loaded here alone, and draws into files without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pocketforge.figures import new_figure, save_figure
from pocketforge.outcomes.layers import LayerStudy
from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.pruning.sensitivity import costs
from pocketforge.studies.intervals import Mean
from pocketforge.studies.pruning_study import Latency, Measured, PruningStudy, Row
from pocketforge.studies.quantizer_study import QuantizerStudy
from pocketforge.studies.settings import BASES, Basis, Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle


class _Look(NamedTuple):
    """How a line is drawn."""

    colour: str
    marker: str


# Okabe & Ito's colours: told apart by colour-blind readers too. With a marker of its own for each.
_LOOK: dict[Method, _Look] = {
    "channels": _Look("#0072B2", "o"),
    "layers": _Look("#D55E00", "s"),
    "unstructured": _Look("#009E73", "^"),
    "both": _Look("#CC79A7", "D"),
}
_UNITS: dict[Basis, str] = {"parameters": "parameters", "macs": "MACs"}


def heat_map(study: SensitivityOutcome, chosen: Mapping[str, float], path: Path) -> Path:
    """Layers × ratios of a sensitivity study: what the metric loses; chosen ratios are framed."""
    ratios, layers = study.ratios, study.layers
    values = [[cost if math.isfinite(cost) else math.nan for cost in costs(study, row)] for row in layers]
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
    lost = f"{study.metric} lost{' (share)' if study.relative else ''}"
    axes.set_title("One layer pruned at a time; framed: what ratio = auto takes", fontsize=9)
    figure.colorbar(image, ax=axes, label=lost)
    return save_figure(figure, path)


def _colours() -> Colormap:
    """Dark is dear; grey is what could not be pruned."""
    from matplotlib import colormaps

    colours: Colormap = colormaps["viridis_r"].with_extremes(bad="lightgrey")
    return colours


def _frame(x: int, y: int) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="#D55E00", linewidth=2)


def accuracy_by_share(study: PruningStudy, basis: Basis, path: Path) -> Path:
    """Top-1 against the share that was really removed: after fine-tuning (with intervals), and before it (dotted)."""
    figure, axes = new_figure(7, 4.6)
    for method, look in _LOOK.items():
        measured = [each for _, each in _measured(study, basis, method)]
        if not measured:
            continue
        shares = [each.removed.of(basis) for each in measured]
        _points(axes, shares, [each.accuracy_after for each in measured], look, method)
        before = [each.accuracy_before.mean for each in measured]
        axes.plot(shares, before, color=look.colour, linestyle=":", linewidth=1, alpha=0.7)
    axes.axhline(study.baseline.accuracy, color="grey", linewidth=1, linestyle="--", label="unpruned")
    axes.set_xlabel(f"share of {_UNITS[basis]} removed (as reached)")
    axes.set_ylabel("top-1 on eval samples")
    axes.set_title(f"{study.recipe}: solid after fine-tuning, dotted before", fontsize=10)
    return _finish(figure, axes, path)


def accuracy_by_latency(study: PruningStudy, runtime: str, path: Path) -> Path:
    """Top-1 after fine-tuning against latency, as a share of the unpruned model's in the same sitting; bars are
    95 % intervals.
    """
    figure, axes = new_figure(7, 4.6)
    for basis, line in zip(BASES, ("-", "--"), strict=True):
        for method, look in _LOOK.items():
            timed = [
                (row.latency[runtime], measured.accuracy_after)
                for row, measured in _measured(study, basis, method)
                if runtime in row.latency
            ]
            timed.sort(key=lambda pair: pair[0].ratio)
            if timed:
                _by_time(axes, timed, look, f"{method}, by {_UNITS[basis]}", line)
    place = (1.0, study.baseline.accuracy_finetuned.mean)
    axes.scatter([place[0]], [place[1]], color="grey", marker="*", s=90, zorder=3)
    axes.annotate("unpruned", place, xytext=(4, 6), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"host latency in {runtime} ÷ the unpruned model's")
    axes.set_ylabel("top-1 on eval samples after fine-tuning")
    axes.set_title(f"{study.recipe}: up and to the left is better", fontsize=10)
    return _finish(figure, axes, path)


def _by_time(axes: Axes, timed: Sequence[tuple[Latency, Mean]], look: _Look, label: str, line: str) -> None:
    """Points with bars both ways."""
    ratios = [time.ratio for time, _ in timed]
    # A time without an interval has no bar.
    below = [0.0 if time.high is None else abs(time.low - time.ratio) for time, _ in timed]
    above = [0.0 if time.high is None else abs(time.high - time.ratio) for time, _ in timed]
    means = [accuracy for _, accuracy in timed]
    axes.errorbar(ratios, [mean.mean for mean in means], xerr=[below, above], fmt="none", ecolor=look.colour, alpha=0.4)
    _points(axes, ratios, means, look, label, line)


def _measured(study: PruningStudy, basis: Basis, method: Method) -> list[tuple[Row, Measured]]:
    """What was reached, by what is really gone."""
    rows = [(row, row.measured) for row in study.rows if row.method == method and row.basis == basis and row.measured]
    return sorted(rows, key=lambda pair: pair[1].removed.of(basis))


def _points(
    axes: Axes, places: Sequence[float], means: Sequence[Mean], look: _Look, label: str, line: str = "-"
) -> None:
    heights, halves = [mean.mean for mean in means], [mean.above or 0.0 for mean in means]
    axes.errorbar(
        places, heights, yerr=halves, color=look.colour, marker=look.marker, markersize=5, linestyle=line,
        linewidth=1.4, capsize=3, label=label,
    )  # fmt: skip


def _finish(figure: Figure, axes: Axes, path: Path) -> Path:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save_figure(figure, path)


_QUANTIZERS = {
    "uniform": _Look("#0072B2", "o"),
    "uniform per channel": _Look("#009E73", "^"),
    "quantile": _Look("#D55E00", "s"),
    "k-means": _Look("#CC79A7", "D"),
}


def accuracy_by_size(study: QuantizerStudy, path: Path) -> Path:
    """The metric against the packed size of the weights, a line for each quantizer, a point for each number of bits."""
    figure, axes = new_figure(7, 4.6)
    for name, look in _QUANTIZERS.items():
        rows = sorted((row for row in study.rows if row.quantizer == name), key=lambda row: row.bits)
        sizes, heights = [row.packed_bytes / 1000 for row in rows], [row.accuracy for row in rows]
        axes.plot(sizes, heights, color=look.colour, marker=look.marker, markersize=5, linewidth=1.4, label=name)
        for row, size, height in zip(rows, sizes, heights, strict=True):
            axes.annotate(
                f"{row.bits}", (size, height), xytext=(3, 4), textcoords="offset points", fontsize=7, color=look.colour
            )
    axes.axhline(study.float.accuracy, color="grey", linewidth=1, linestyle="--", label="float32")
    axes.set_xlabel(f"packed weights in kB (float32: {study.float.bytes / 1000:.0f})")
    axes.set_ylabel(f"{study.metric} on eval samples")
    axes.set_title(f"{study.recipe}: weights quantized, not trained after; numbers are bits", fontsize=10)
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
