"""What stage `why` finds: every form against the one before it, then the layers of the first that is bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.fx import Node

from pocketforge.metrics import Comparison, compare
from pocketforge.why.causes import likely
from pocketforge.why.chain import LAYER_SAMPLES, Array, Chain, Emit, ModelOutput
from pocketforge.why.forms import Form
from pocketforge.why.inside import layers_of_stage
from pocketforge.why.layers import LayerDifference, first_bad
from pocketforge.why.limits import limit_for
from pocketforge.why.outputs import judge_output
from pocketforge.why.outputs import shaped as _shaped
from pocketforge.why.words import sentence


def explain(inputs: Mapping[str, Path], spec: Mapping[str, Any], scratch: Path, emit: Emit) -> dict[str, Any]:
    """What stage `why` finds, as plain JSON values (see docs/why.md). Raises ToolFailed when the file does not run."""
    chain = Chain(inputs, spec, scratch, emit)
    chain.walk()
    stages = judge(chain.forms, spec, chain.outputs)
    bad = next((s["name"] for s in stages if s["bad"]), "")
    # Without a bad stage: where most is lost, to see the scheme's own price by layer.
    measured = [s for s in stages if s["sqnr_db"] is not None]
    inside = bad or min(measured, key=lambda s: float(s["sqnr_db"]))["name"]
    output = next(s["output"] for s in stages if s["name"] == inside)
    emit(0.8, f"looking at the layers of {inside}")
    rows, missing, weights = layers_of_stage(chain, inside, bad=bool(bad))
    limit = limit_for(inside, before(chain.forms, inside), spec, output)
    able = _leading_to(chain, output, rows)
    worst = first_bad(able, limit.layer_db) if bad else min(able, key=lambda r: r.judged.sqnr_db, default=None)
    found: dict[str, Any] = {
        "target": spec["target"],
        "runtime": chain.runtime,
        "scheme": spec["scheme"],
        "samples": len(chain.samples[0]),
        "layer_samples": min(LAYER_SAMPLES, len(chain.samples[0])),
        "stages": stages,
        "first_bad_stage": bad,
        "output": output,
        "layers_of": inside,
        "layers": [_row(row) for row in rows],
        "layers_missing": missing,
        "layer_limit_db": limit.layer_db,
        "first_bad_layer": worst.layer if worst else "",
        "likely": likely(worst, inside, weights(worst.layer), limit.layer_db) if worst and bad else "",
    }
    found["sentence"] = sentence(found)
    return found


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
    there = [form.name for form in chain if form.outputs is not None]
    return there[there.index(name) - 1] if there.index(name) else ""


def judge(chain: Sequence[Form], spec: Mapping[str, Any], outputs: Sequence[ModelOutput]) -> list[dict[str, Any]]:
    """Every stage against the first and against the one before it, with its limit and what is wrong.

    A stage's figures are of its worst output, which "output" names.
    """
    rows = []
    first: Sequence[Array] | None = None
    last: Sequence[Array] | None = None
    costs = _costs(chain, spec, outputs)
    for form in chain:
        row: dict[str, Any] = {
            "name": form.name,
            "about": form.about,
            "missing": form.missing,
            "before": "",
            "output": outputs[0].name,
            "sqnr_db_from_first": None,
            "sqnr_db": None,
            "max_abs_diff": None,
            "argmax_agreement": None,
            "argmax_agreement_from_first": None,
            "bad": False,
            "reasons": [],
        }
        rows.append(row)
        if form.outputs is None:
            continue
        if first is None or last is None:
            first = last = form.outputs
            continue
        row["before"] = before(chain, form.name)
        judged = [
            judge_output(each, form.outputs[k], last[k], first[k], limit_for(form.name, row["before"], spec, each.name),
                         classes=spec["task"] == "classification" and k == 0, before=row["before"], costs=costs.get(k))
            for k, each in enumerate(outputs)
        ]  # fmt: skip
        worst = min(judged, key=lambda found: (not found["reasons"], found["sqnr_db"]))
        several = len(outputs) > 1
        row |= {
            **worst,
            "reasons": [f"output {j['output']}: {r}" if several else r for j in judged for r in j["reasons"]],
        }
        for name in ("argmax_agreement", "argmax_agreement_from_first"):
            row[name] = judged[0][name]
        row["bad"] = bool(row["reasons"])
        last = form.outputs
    return rows


def _costs(chain: Sequence[Form], spec: Mapping[str, Any], outputs: Sequence[ModelOutput]) -> dict[int, Comparison]:
    """Output → how far quantizing took the graph that the file is made from."""
    forms = {form.name: form for form in chain if form.outputs is not None}
    traced, graph = forms["exported"].outputs, forms.get("converted", forms.get("prepared"))
    if graph is None or graph.outputs is None or traced is None:
        return {}
    classes = spec["task"] == "classification"
    return {
        k: compare(_shaped(graph.outputs[k], traced[k]), traced[k], classes=classes and k == 0)
        for k, each in enumerate(outputs)
        if not each.is_exact
    }


def _row(row: LayerDifference) -> dict[str, Any]:
    d = row.judged
    part = d.worst_channel
    return {
        "layer": row.layer,
        "op": row.op,
        "sqnr_db": row.seen.sqnr_db,
        "own_sqnr_db": row.own.sqnr_db if row.own else None,
        "channel": part.where if part else "",
        "channel_sqnr_db": part.sqnr_db if part else None,
        "range_before": [d.low[0], d.high[0]] if d.count else None,
        "range": [d.low[1], d.high[1]] if d.count else None,
    }
