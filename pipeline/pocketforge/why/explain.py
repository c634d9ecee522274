"""What stage `why` finds: every form against the one before it, then the layers of the first that is bad."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.fx import Node

from pocketforge import events
from pocketforge.metrics import Array, Comparison, compare
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.why import Explained, FormFound, LayerFound
from pocketforge.specs.why import WhySpec
from pocketforge.why.causes import calibrate_further, cut_by_observer, likely
from pocketforge.why.chain import LAYER_SAMPLES, Chain, ModelOutput
from pocketforge.why.forms import Form
from pocketforge.why.inside import layers_of_stage
from pocketforge.why.layer_outputs import LayerDifference, first_bad
from pocketforge.why.limits import limit_for
from pocketforge.why.outputs import Against, OutputJudged, judge_output, shaped
from pocketforge.why.words import sentence


def explain(inputs: Mapping[str, Path], spec: WhySpec, scratch: Path, emit: events.Progress) -> Explained:
    """What stage `why` finds (see docs/why.md). Raises ToolFailed when the file does not run."""
    chain = Chain(inputs, spec, scratch, emit)
    chain.walk()
    stages = judge(chain.forms, spec, chain.outputs)
    bad = next((form.name for form in stages if form.bad), "")
    # Without a bad stage: where most is lost, to see the scheme's own price by layer.
    costs = {form.name: form.sqnr_db for form in stages if form.sqnr_db is not None}
    inside = bad or min(costs, key=lambda name: costs[name])
    output = next(form.output for form in stages if form.name == inside)
    emit(0.8, f"looking at the layers of {inside}")
    layers = layers_of_stage(chain, inside, bad=bool(bad))
    limit = limit_for(inside, before(chain.forms, inside), spec, output)
    able = _leading_to(chain, output, layers.rows)
    worst = first_bad(able, limit.layer_db) if bad else min(able, key=lambda r: r.judged.sqnr_db, default=None)
    unseen = _unseen(inputs, spec, worst) if worst else ""
    explained = Explained(
        target=spec.target,
        runtime=chain.runtime,
        scheme=spec.scheme,
        samples=len(chain.samples[0]),
        layer_samples=min(LAYER_SAMPLES, len(chain.samples[0])),
        stages=tuple(stages),
        first_bad_stage=bad,
        output=output,
        layers_of=inside,
        layers=tuple(_layer(row) for row in layers.rows),
        layers_missing=layers.missing,
        layer_limit_db=limit.layer_db,
        first_bad_layer=worst.layer if worst else "",
        likely=likely(worst, inside, layers.weights(worst.layer), limit.layer_db, unseen) if worst and bad else "",
    )
    return dataclasses.replace(explained, sentence=sentence(explained))


def _unseen(inputs: Mapping[str, Path], spec: WhySpec, row: LayerDifference) -> str:
    """What to write where values of a layer are cut off; empty where nothing was calibrated."""
    if spec.quantize is None or not spec.quantize.is_static:
        return ""
    ranges = files.read(inputs["quantize"], Quantized).ranges if "quantize" in inputs else ()
    counts = files.read(inputs["data"], Sampled).counts
    return cut_by_observer(row, ranges, spec.quantize.calibration) or calibrate_further(
        counts, spec.quantize.calibration_samples
    )


def _leading_to(chain: Chain, output: str, rows: Sequence[LayerDifference]) -> Sequence[LayerDifference]:
    """The layers that an output is computed from; all where the graph does not tell."""
    traced = next(form for form in chain.forms if form.name == "exported")
    results = next(node for node in traced.graph.graph.nodes if node.op == "output").args[0]
    number = [each.name for each in chain.outputs].index(output)
    behind: set[Node] = set()
    waiting: list[Node] = [results[number]] if isinstance(results[number], Node) else []
    while waiting:
        node = waiting.pop()
        if node not in behind:
            behind.add(node)
            waiting += node.all_input_nodes
    leading = [r for r in rows if (tap := traced.taps.get(r.layer)) is None or tap.anchor in behind]
    return leading or rows


def before(chain: Sequence[Form], name: str) -> str:
    """The nearest stage before `name` that has outputs; empty for the first."""
    ran = [form.name for form in chain if form.outputs is not None]
    return ran[ran.index(name) - 1] if ran.index(name) else ""


def judge(chain: Sequence[Form], spec: WhySpec, outputs: Sequence[ModelOutput]) -> list[FormFound]:
    """Every stage against the first and against the one before it, with its limit and what is wrong.

    A stage's figures are of its worst output.
    """
    rows = []
    first: Sequence[Array] | None = None
    last: Sequence[Array] | None = None
    costs = _costs(chain, spec, outputs)
    for form in chain:
        row = FormFound(form.name, form.about, form.missing, outputs[0].name)
        if form.outputs is None or first is None or last is None:
            first = last = form.outputs if first is None else first
            rows.append(row)
            continue
        row = dataclasses.replace(row, before=before(chain, form.name))
        judged = []
        for number, each in enumerate(outputs):
            limit = limit_for(form.name, row.before, spec, each.name)
            classes = spec.scores_classes(each.name, number)
            against = Against(row.before, limit, classes, costs.get(number))
            judged.append(judge_output(each, form.outputs[number], last[number], first[number], against))
        rows.append(_with_worst(row, judged))
        last = form.outputs
    return rows


def _with_worst(row: FormFound, judged: Sequence[OutputJudged]) -> FormFound:
    """A form's row with the figures of its worst output, the first output's argmax, and every output's reasons."""
    worst = min(judged, key=lambda each: (not each.reasons, each.sqnr_db))
    several = len(judged) > 1
    reasons = tuple(f"output {each.output}: {r}" if several else r for each in judged for r in each.reasons)
    return dataclasses.replace(
        row,
        output=worst.output,
        sqnr_db=worst.sqnr_db,
        sqnr_db_from_first=worst.sqnr_db_from_first,
        max_abs_diff=worst.max_abs_diff,
        argmax_agreement=judged[0].argmax_agreement,
        argmax_agreement_from_first=judged[0].argmax_agreement_from_first,
        bad=bool(reasons),
        reasons=reasons,
    )


def _costs(chain: Sequence[Form], spec: WhySpec, outputs: Sequence[ModelOutput]) -> dict[int, Comparison]:
    """Output → how far quantizing took the graph that the file is made from."""
    forms = {form.name: form for form in chain if form.outputs is not None}
    exported = next(form for form in chain if form.name == "exported").outputs
    graph = forms.get("converted", forms.get("prepared"))
    if graph is None or graph.outputs is None or exported is None:
        return {}
    return {
        k: compare(shaped(graph.outputs[k], exported[k]), exported[k], classes=spec.scores_classes(each.name, k))
        for k, each in enumerate(outputs)
        if not each.is_exact
    }


def _layer(row: LayerDifference) -> LayerFound:
    sums = row.judged
    part = sums.worst_channel
    return LayerFound(
        layer=row.layer,
        op=row.op,
        sqnr_db=row.seen.sqnr_db,
        own_sqnr_db=row.own.sqnr_db if row.own else None,
        channel=part.where if part else "",
        channel_sqnr_db=part.sqnr_db if part else None,
        range_before=(sums.low[0], sums.high[0]) if sums.count else None,
        range=(sums.low[1], sums.high[1]) if sums.count else None,
    )
