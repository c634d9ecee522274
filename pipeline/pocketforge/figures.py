"""Pictures as PNG. matplotlib is loaded here alone, and draws into files without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.errors import ToolMissing
from pocketforge.files import explain_os_error
from pocketforge.version import install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure (inches) and its axes. Raises ToolMissing without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ToolMissing(f"pictures need matplotlib: {error}", install("compress")) from error
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG. Raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No version or date in it: the same figures give the same bytes.
        figure.savefig(path, format="png", metadata={"Software": None})
    except OSError as error:
        raise explain_os_error(error, path.parent, "--out") from error
    return path
