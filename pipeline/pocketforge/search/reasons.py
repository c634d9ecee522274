"""A search's outcome in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketforge.recipe import METRICS
from pocketforge.recipe.metric import Better
from pocketforge.search.constraints import UNMEASURED
from pocketforge.search.dimension import Value
from pocketforge.search.summary import nearest_to_kept
from pocketforge.search.trial import Trial


def reasons_of(
    trials: Sequence[Trial], front: Sequence[int], recommended: int | None, better: Mapping[str, Better]
) -> tuple[str, ...]:
    """Why a trial is recommended and what it gains on the recipe as it is; or which budget binds, and by how much."""
    if recommended is None:
        return _none_kept(trials)
    by_number = {trial.number: trial for trial in trials}
    chosen = by_number[recommended]
    count = sum(trial.is_feasible for trial in trials)
    beaten = f"{len(front)} {'is' if len(front) == 1 else 'are'} beaten by no other"
    of_these = "" if len(front) == 1 else ", and this one is nearest to the best value of every objective at once"
    told = f"of {_trials(count)} every budget, {beaten}{of_these}."
    lines = [f"Trial {recommended} ({described(chosen)}): {told}"]
    for name, way in better.items():
        best = (max if way == "higher" else min)(by_number[number].values[name] for number in front)
        lines.append(f"{name}: {figure(name, chosen.values[name])}; the best on the front is {figure(name, best)}.")
    lines += [line for trial in trials if trial.label and trial.state == "full" and trial is not chosen
              for line in [_against(chosen, trial, better)]]  # fmt: skip
    if count > 1:
        lines.append(
            f"It was chosen among {count} by the same samples that its quality is told of: on others it will be a "
            "little lower than this, the more so the more trials there were."
        )
    return tuple(lines)


def _trials(count: int) -> str:
    return "1 trial that keeps" if count == 1 else f"{count} trials that keep"


def _against(chosen: Trial, base: Trial, better: Mapping[str, Better]) -> str:
    parts = []
    for name in better:
        now, then = chosen.values[name], base.values[name]
        ratio = f" (× {now / then:.3g})" if then > 0 and now != then and not _is_share(name) else ""
        parts.append(f"{name} {figure(name, then)} → {figure(name, now)}{ratio}")
    kept = "" if base.is_feasible else "; that does not keep every budget"
    return f"Against {base.label}: {', '.join(parts)}{kept}."


def _none_kept(trials: Sequence[Trial]) -> tuple[str, ...]:
    nearest = nearest_to_kept(trials)
    if nearest is None:
        failed = next((trial for trial in trials if trial.reason), None)
        because = f": trial {failed.number}: {failed.reason}" if failed else ""
        return (f"No trial came to its end{because}",)
    lines = [f"No trial keeps every budget. The nearest is trial {nearest.number} ({described(nearest)}):"]
    for name, over in sorted(nearest.violations.items(), key=lambda each: -each[1]):
        if over > 0:
            lines.append(f"{name}: {'not measured' if over >= UNMEASURED else f'{over:.2%} of the limit away'}.")
    binding = _binding(trials)
    if binding:
        lines.append(f"Most often not kept: {binding}.")
    return tuple(lines)


def _binding(trials: Sequence[Trial]) -> str:
    counts: dict[str, int] = {}
    for trial in trials:
        for name, over in trial.violations.items():
            counts[name] = counts.get(name, 0) + (over > 0)
    name = max(counts, key=lambda each: (counts[each], each), default="")
    return f"{name}, by {counts[name]} of {len(trials)} trials" if name else ""


def described(trial: Trial) -> str:
    """What a trial is, in a line."""
    return trial.label or ", ".join(f"{name} {said(value)}" for name, value in trial.choice.items())


def said(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def figure(name: str, value: float) -> str:
    """A value with its metric's digits and unit. name: of the objective."""
    row = METRICS.if_usable(_metric(name))
    if row is None:
        return f"{value:.6g}"
    return f"{format(value, row.form)} {row.unit}".rstrip()


def _is_share(name: str) -> bool:
    row = METRICS.if_usable(_metric(name))
    return row is not None and row.limits.share


def _metric(name: str) -> str:
    return name.partition(" on ")[0].rpartition(".")[2]
