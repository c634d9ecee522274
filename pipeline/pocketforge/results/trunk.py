"""What the steps of [[compress]] did and bought, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterator

from pocketforge.outcomes.gains import Flag, GainsOutcome
from pocketforge.outcomes.prune import ChannelsReport, PruneOutcome
from pocketforge.outcomes.train import TrainOutcome
from pocketforge.plan.steps import Plan
from pocketforge.records import Compression, CompressionStep
from pocketforge.run.walk import Outcome
from pocketforge.specs.finetune import FinetuneSpec


def compression_of(plan: Plan, outcome: Outcome) -> Compression | None:
    """Each step's own words, and the model measured after each; None without [[compress]]."""
    if not plan.changes:
        return None
    steps = []
    for change in plan.changes:
        entry = outcome.entries.get(change.key)
        files = entry.hashes if entry else ()
        spec = plan.step(change.key).spec
        steps.append(
            CompressionStep(
                label=change.label,
                entry=change.entry,
                key=change.key,
                prune=outcome.result(change.key, PruneOutcome) if PruneOutcome.FILE in files else None,
                train=outcome.result(change.key, TrainOutcome) if TrainOutcome.FILE in files else None,
                trained_on=spec.trained_on if isinstance(spec, FinetuneSpec) else "",
            )
        )
    gains = outcome.result(plan.gains, GainsOutcome) or GainsOutcome((), ())
    return Compression(tuple(steps), gains.states, gains.flags)


def trunk_warnings(compression: Compression) -> Iterator[str]:
    """Steps that lowered MACs and not time; layers whose width is not what was asked."""
    for flag in compression.flags:
        yield describe_flag(flag)
    for step in compression.steps:
        if step.prune and isinstance(step.prune.report, ChannelsReport):
            for warning in step.prune.report.warnings:
                yield f"{step.label}: {warning}"


def describe_flag(flag: Flag) -> str:
    """A step that lowered MACs and not time, in words."""
    ratio, low, high = flag.ratio
    before, after = flag.macs
    layers = ", ".join(layer.name for layer in flag.layers)
    time = f"× {ratio:.2f} (95 % {low:.2f} to {high:.2f})"
    where = f"{flag.label}: {1 - after / before:.0%} fewer MACs"
    if flag.verdict == "unsettled":
        return f"{where}; the timer's noise hides whether {flag.runtime} got faster: {time}"
    return f"{where}, but no less time in {flag.runtime}: {time}" + (
        f"; layers that gained nothing: {layers}" if layers else ""
    )
