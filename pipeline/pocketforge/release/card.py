"""model-card.md: what people who decide about a model want to know, found out by the build or said by the recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pocketforge.outcomes import files
from pocketforge.outcomes.package import in_words
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.shipped_names import BOM, PROVENANCE, SUMS
from pocketforge.release.bom import settings_of, settings_of_all
from pocketforge.release.contents import Contents, ShippedTarget
from pocketforge.release.markdown import plain, prose, table

_MOST_LABELS = 20


def model_card(contents: Contents) -> str:
    """The card, in Markdown."""
    return "\n".join(_lines(contents)) + "\n"


def _lines(contents: Contents) -> Iterator[str]:
    recipe, about = contents.recipe, contents.recipe.release
    yield f"# {plain(recipe.name)}{f' {plain(about.version)}' if about.version else ''}"
    if about.description:
        yield from ("", prose(about.description))
    yield from _section("Use", _said(about.intended_use, about.limitations))
    yield from _section("Licences", _licences(about.license, about.data_license))
    yield from _section("Files", table(("file", "target", "runtime", "scheme", "bytes", "SHA-256"), _files(contents)))
    yield from _section("Accuracy", _accuracy(contents))
    yield from _section("What the files take and give", _borders(contents))
    yield from _section("Preprocessing", _preprocessing(contents))
    yield from _section("Data", _data(contents))
    yield from _section("How it was made", _made(contents))
    yield from _section("Checks", _checks(contents))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield from ("", f"## {title}", "", *found)


def _said(use: str, limitations: str) -> Iterator[str]:
    if use:
        yield f"Intended use: {prose(use)}"
    if limitations:
        yield from ([""] if use else [])
        yield f"Limitations: {prose(limitations)}"


def _licences(model: str, data: str) -> Iterator[str]:
    yield from (f"- {what}: {prose(text)}" for what, text in (("model", model), ("data", data)) if text)


def _files(contents: Contents) -> Iterator[Sequence[str]]:
    for each in contents.targets:
        for file in each.record.artifacts:
            record = each.record
            yield file.path, record.name, record.runtime, record.scheme, f"{file.size_bytes:,}", file.sha256
    for shared in contents.shared:
        yield shared.path, "all", shared.role, "", f"{shared.size_bytes:,}", shared.sha256


def _accuracy(contents: Contents) -> Iterator[str]:
    found = {each.record.name: (dict(each.figures()), each.eval_samples) for each in contents.targets}
    if contents.reference:
        model = contents.reference
        found = {model.title: (dict(model.accuracy), model.eval_samples), **found}
    metrics = list(dict.fromkeys(name for figures, _ in found.values() for name in figures))
    if metrics:
        rows = (
            (of, str(samples), *(f"{figures[name]:.4f}" if name in figures else "" for name in metrics))
            for of, (figures, samples) in found.items()
        )
        yield from table(("of", "eval samples", *metrics), rows)


def _borders(contents: Contents) -> Iterator[str]:
    rows: list[Sequence[str]] = []
    for each in contents.targets:
        rows += [_tensor(each, "input", tensor) for tensor in each.exported.inputs]
        rows += [_tensor(each, "output", tensor) for tensor in each.exported.outputs]
    yield from table(("target", "", "name", "type", "shape", "layout", "scale", "zero point"), rows)
    labels = contents.targets[0].sampled.labels
    if labels:
        more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
        yield from ("", f"{len(labels)} labels: {', '.join(map(plain, labels[:_MOST_LABELS]))}{more}")


def _tensor(target: ShippedTarget, what: str, tensor: TensorSpec) -> Sequence[str]:
    scale = "" if tensor.scale is None else repr(tensor.scale)
    zero = "" if tensor.zero_point is None else str(tensor.zero_point)
    return target.record.name, what, tensor.name, tensor.dtype, str(list(tensor.shape)), tensor.layout, scale, zero


def _preprocessing(contents: Contents) -> Iterator[str]:
    """As samples become the PyTorch model's input; the layout and levels of each file are in its sidecar."""
    prepared = files.to_json(contents.targets[0].sampled.preprocess)
    for one in prepared.get("inputs", [prepared]):
        if "name" in one:
            yield from (f"{plain(one['name'])}:", "")
        for number, step in enumerate(one["steps"], start=1):
            settings = {name: value for name, value in step.items() if name != "step"}
            words = ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items())
            yield f"{number}. {plain(str(step['step']))}{f' ({plain(contents.told(words))})' if words else ''}"
        yield ""
    for each in contents.targets:
        if each.record.facts.package:
            yield from (f"{plain(each.record.name)} {in_words(each.record.facts.package)}.", "")


def _data(contents: Contents) -> Iterator[str]:
    sampled = contents.targets[0].sampled
    yield from (f"Source: {plain(contents.told(sampled.source))}", "")
    counts = files.to_json(sampled.counts)
    yield from table(("samples", "count"), ((name.replace("_", " "), f"{count:,}") for name, count in counts.items()))
    for note in (*contents.report.data, *sampled.notes):
        yield from ("", plain(contents.told(note)))


def _made(contents: Contents) -> Iterator[str]:
    rows = [("all", name, value) for name, value in settings_of_all(contents)]
    for each in contents.targets:
        rows += [(each.record.name, *said) for said in settings_of(contents, each) if said[0] == "quantize"]
    yield from table(("target", "setting", "value"), rows)
    for each in contents.targets:
        if made := each.record.facts.elsewhere:
            yield from ("", f"{plain(each.record.name)} is {plain(made.in_words())}.")
    yield from ("", f"Inputs' hashes, the commit and versions of all libraries: {PROVENANCE} and {BOM}.")


def _checks(contents: Contents) -> Iterator[str]:
    checks = [check for each in contents.targets for check in each.record.checks]
    passed = sum(check.passed for check in checks)
    yield f"Gate: {contents.report.verdict}; {passed} of {len(checks)} checks of outputs passed."
    if contents.report.gates:
        yield ""
        head = ("verdict", "target", "metric", "device", "limit")
        gates = contents.report.gates
        verdicts = [f"{g.verdict}, waived {g.waiver}" if g.waiver else g.verdict for g in gates]
        limits = [f"{g.budget.limit:,.10g}" for g in gates]
        places = [(g.target, g.budget.metric, g.device) for g in gates]
        yield from table(head, ((v, *place, most) for v, place, most in zip(verdicts, places, limits, strict=True)))
    for each in contents.targets:
        for warning in each.record.warnings:
            yield from ("", f"Warning of {plain(each.record.name)}: {plain(contents.told(warning))}")
    yield from ("", f"Times are of the machine that measured them: the sidecars have them, {SUMS} covers all.")
