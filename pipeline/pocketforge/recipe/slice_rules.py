"""Rules of a budget on each slice of the samples, or on each class."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pocketforge.recipe.metrics_of_outputs import metrics_of_role
from pocketforge.recipe.names import suggest
from pocketforge.recipe.roles import ROLES
from pocketforge.recipe.worst_part import OF_CLASSES
from pocketforge.registries import SOURCES


def fault_of_slice(name: str, columns: Sequence[str], source: str, kind: str) -> str:
    """Why samples have no such slice; empty where they may. columns: data.columns.slices. kind: of the source."""
    if SOURCES.brought_by(kind) is not None:  # a package's source says its slices itself, once it is opened
        return ""
    if not SOURCES[kind].columns:
        able = " or ".join(f"{word}:{row.place}" for word, row in SOURCES.usable().items() if row.columns)
        return f"samples of {source!r} have no slices: columns of {able} are"
    if name in columns:
        return ""
    if not columns:
        return f'no column is a slice: write slices = ["{name}"] in [data.columns]'
    return f"no slice is named {name!r}{suggest(name, columns)}; data.columns.slices has {', '.join(columns)}"


def fault_per_class(metric: str, own: Collection[str]) -> str:
    """Why a metric has no value of each class; empty where it has. own: the user's metrics."""
    if metric in OF_CLASSES:
        return ""
    if metric in own:
        return f"{metric} is a metric of yours, and gives one number: take one of each class as a metric of its own"
    roles = [role for role in ROLES if metric in metrics_of_role(role)]
    able = sorted({each for role in roles for each in metrics_of_role(role)} & OF_CLASSES)
    others = f"; {', '.join(able)} {'has' if len(able) == 1 else 'have'}" if able else ""
    return f"{metric} has no value of each class{others}"
