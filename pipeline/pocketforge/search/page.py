"""A search as a page of the report's kind: one file that loads and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.report.page import rendered
from pocketforge.report.page.parts import Cell, Page, Plot, Section, Tone, table
from pocketforge.report.page.plots import compact
from pocketforge.report.page.pygal_alone import pygal
from pocketforge.report.page.svg import drawn, options
from pocketforge.search.constraints import UNMEASURED
from pocketforge.search.reasons import described, figure
from pocketforge.search.result import FitResult
from pocketforge.search.trial import Trial

_TONES: dict[str, Tone] = {"full": "good", "stopped": "near", "failed": "bad"}
_MOST_BARS = 12


def write(result: FitResult) -> str:
    """The page. It says what fit.json says."""
    chosen = result.recommended
    count = len(result.trials)
    full = sum(trial.state == "full" for trial in result.trials)
    return rendered(
        Page(
            title=result.recipe,
            verdict=f"trial {chosen}" if chosen is not None else "no trial keeps every budget",
            tone="good" if chosen is not None else "bad",
            summary=f"{count} trials, {full} of them trained fully; {result.ended}. "
            f"Sampler {result.sampler}, seed {result.seed}.",
            targets=(),
            sections=(_recommended(result), _front(result), _gained(result), _importances(result), _trials(result)),
            kind="Pocketforge search",
            made_from="fit.json",
        )
    )


def _recommended(result: FitResult) -> Section:
    title = "Recommended" if result.recommended is not None else "Nothing is recommended"
    budgets = f"Budgets: {'; '.join(result.budgets)}." if result.budgets else "The recipe has no budget that binds."
    if result.recommended is None:
        return Section("recommended", title, (budgets,), faults=result.reasons)
    return Section("recommended", title, (*result.reasons, budgets))


def _front(result: FitResult) -> Section:
    names = list(result.better)
    rows: list[tuple[str | Cell, ...]] = [
        (
            str(number),
            *(figure(name, result.trial(number).values[name]) for name in names),
            described(result.trial(number)),
        )
        for number in result.front
    ]
    if not rows:
        return Section("front", "Front", ("It is empty.",))
    shown = table(
        "Trials that keep every budget, and that no other of these beats", ("trial", *names, "is"), rows, *names
    )
    plots = [plot for other in names[1:] if (plot := _trade(result, other, names[0]))]
    return Section("front", "Front", tables=(shown,), plots=tuple(plots))


def _trade(result: FitResult, across: str, up: str) -> Plot | None:
    """A dot for each fully trained trial: those on the front joined, those that break a budget apart."""
    full = [trial for trial in result.trials if trial.state == "full"]
    if len({(trial.values[across], trial.values[up]) for trial in full}) < 2:
        return None
    chart = pygal.XY(
        stroke=False, x_title=across, y_title=up, x_value_formatter=compact, value_formatter=compact,
        xrange=_around([trial.values[across] for trial in full]), range=_around([trial.values[up] for trial in full]),
        **options(),
    )  # fmt: skip
    line = sorted((result.trial(n).values[across], result.trial(n).values[up]) for n in result.front)
    chart.add("front", line, stroke=True, show_dots=False)
    chart.add("keep every budget", [_dot(t, across, up) for t in full if t.is_feasible])
    chart.add("do not", [_dot(t, across, up) for t in full if not t.is_feasible])
    svg = drawn(chart, f"{up} against {across} of each trial", [0, 1, 2])
    ways = ", ".join(f"{name}: {way} is better" for name, way in result.better.items() if name in (across, up))
    return Plot(svg, f"Each fully trained trial; the line joins the front ({ways}). The second colour breaks a budget.")


def _dot(trial: Trial, across: str, up: str) -> dict[str, object]:
    words = f"trial {trial.number}: {figure(across, trial.values[across])}, {figure(up, trial.values[up])}"
    return {"value": (trial.values[across], trial.values[up]), "formatter": lambda _, said=words: said}


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    by = 0.12 * (high - low) or 0.02 * abs(high) or 1.0
    return low - by, high + by


def _gained(result: FitResult) -> Section:
    if not result.gained:
        return Section("gained", "What the time bought", ("Nothing yet: no trial keeps every budget.",))
    rows: list[tuple[str | Cell, ...]] = [
        (str(each.trial), f"{each.ended_s:,.0f}", f"{each.work_s:,.0f}", f"{each.hypervolume:.4f}")
        for each in result.gained
    ]
    heads = ("trial", "seconds of search", "seconds of steps", "front's volume")
    shown = table("Each trial that bettered the front", heads, rows, *heads)
    line = "The volume is what the front covers of the box between the best and the worst of every objective, 0 to 1."
    plots = []
    if len(result.gained) > 1:
        chart = pygal.XY(stroke=True, x_title="seconds of steps", y_title="front's volume",
                         x_value_formatter=compact, value_formatter=compact, **options())  # fmt: skip
        chart.add("front", [(each.work_s, each.hypervolume) for each in result.gained])
        plots.append(Plot(drawn(chart, "the front's volume by seconds of work", [1]), "How the front grew."))
    return Section("gained", "What the time bought", (line,), tables=(shown,), plots=tuple(plots))


def _importances(result: FitResult) -> Section:
    if not result.importances:
        few = "Too few fully trained trials to say, or their values do not differ."
        return Section("importances", "What makes the difference", (few,))
    names = list(result.importances)
    dimensions = list(dict.fromkeys(each for shares in result.importances.values() for each in shares))
    rows: list[tuple[str | Cell, ...]] = [
        (each, *(f"{result.importances[name].get(each, 0.0):.0%}" for name in names))
        for each in dimensions[:_MOST_BARS]
    ]
    shown = table("Share of the variance of each objective that a choice makes", ("choice", *names), rows, *names)
    line = "By fANOVA over the fully trained trials. With few trials this is rough."
    return Section("importances", "What makes the difference", (line,), tables=(shown,))


def _trials(result: FitResult) -> Section:
    names = list(result.better)
    rows: list[tuple[str | Cell, ...]] = [
        (
            str(trial.number),
            Cell(trial.state if trial.state != "stopped" else f"stopped {trial.rung}", tone=_TONES[trial.state]),
            *(figure(name, trial.values[name]) if name in trial.values else "" for name in names),
            _broken(trial),
            f"{trial.seconds:,.0f}",
            Cell(described(trial), note=trial.reason + (f" (log: {trial.log})" if trial.log else "")),
        )
        for trial in result.trials
    ]
    heads = ("trial", "state", *names, "budgets not kept", "seconds", "is")
    shown = table("Every trial", heads, rows, *names, "seconds")
    note = "Values of a stopped trial are those of its last look: untrained, or after short training."
    return Section("trials", "Trials", tables=(shown,), folded=True, notes=(note,))


def _broken(trial: Trial) -> str:
    return "; ".join(
        f"{name}: {'not measured' if over >= UNMEASURED else f'by {over:.2%}'}"
        for name, over in trial.violations.items()
        if over > 0
    )
