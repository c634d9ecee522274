"""The rules between sizes of inputs that vary and the rest of a recipe, and the targets that buckets become."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from pocketforge.recipe.budget import Budget
from pocketforge.recipe.faults import Fault
from pocketforge.recipe.model import Model
from pocketforge.recipe.preprocess import Preprocessing
from pocketforge.recipe.sized_preprocess import preprocess_at
from pocketforge.recipe.sizes import SizeRange, length_faults, suffix
from pocketforge.recipe.target import Target
from pocketforge.registries import RUNTIMES

_MOST_BUCKETS = 32


def faults_of_sizes(
    model: Model, preprocess: Preprocessing, targets: Sequence[Target], cores: Collection[str]
) -> list[Fault]:
    """cores: names of devices of other cores than the host's."""
    if not model.varying:
        faults = [Fault("eval_size is of inputs whose sizes vary, and none does", "model.eval_size")]
        return [
            *(faults if model.eval_size else ()),
            *(
                Fault(
                    'sizes are lengths of inputs whose sizes vary: write a range in [[model.input]], shape = [1, 3, "H:'
                    '32..640:32", "W:32..640:32"]',
                    f"target[{index}].sizes",
                )
                for index, target in enumerate(targets)
                if target.sizes
            ),
        ]
    faults = list(_faults_of_model(model))
    for index, target in enumerate(targets):
        where = f"target[{index}]"
        if target.bucket or faults:
            continue  # taken from sizes that were right
        if target.sizes:
            faults += [fault.inside(where) for fault in _faults_of_buckets(target, model, preprocess)]
        else:
            refused = varying_refusal(target, cores)
            faults += [Fault(refused, where)] if refused else []
    return faults


def _faults_of_model(model: Model) -> Iterator[Fault]:
    ranges: dict[str, SizeRange] = {}
    for index, given in enumerate(model.inputs):
        for each in given.varying:
            known = ranges.setdefault(each.name, each)
            if known.bounds != each.bounds:
                yield Fault(f"{each} and {known} have one name and other bounds", f"model.input[{index}].shape")
    if model.definition.endswith(".pt2"):
        yield Fault("a .pt2 is traced already, in the shapes that it has: give the .py definition", "model.input")
    if model.states:
        yield Fault("a model with states has fixed shapes here", "model.input")
    for fault in length_faults(model.eval_size, model.varying) if model.eval_size else ():
        yield Fault(fault, "model.eval_size")


def _faults_of_buckets(target: Target, model: Model, preprocess: Preprocessing) -> Iterator[Fault]:
    sizes = target.sizes or ()
    if len(sizes) > _MOST_BUCKETS:
        yield Fault(f"wanted at most {_MOST_BUCKETS}, found {len(sizes)}: each is a file of its own", "sizes")
    for index, size in enumerate(sizes):
        faults = length_faults(size, model.varying)
        if size in sizes[:index]:
            faults.append(f"{list(size)} is there twice")
        if not faults and preprocess_at(preprocess, model, size) is None:
            faults.append(
                f"nothing in data.preprocess makes samples of another size than model.eval_size "
                f"{list(model.eval_sizes.values())}: write a resize, center_crop, pad or pad_or_trim of that size; a "
                "bucket's is put in its place"
            )
        yield from (Fault(fault, f"sizes[{index}]") for fault in faults)


def varying_refusal(target: Target, cores: Collection[str]) -> str:
    """Why no file of a target can take sizes that vary, and what to do; empty where one can."""
    runtime, scheme = RUNTIMES[target.runtime], target.quantize.scheme
    buckets = "give the target sizes = [[…], […]]: a file of fixed shapes for each"
    if scheme not in runtime.varying:
        able = " or ".join(name for name, info in RUNTIMES.usable().items() if scheme in info.varying)
        why = f" ({runtime.why_fixed})" if runtime.why_fixed else ""
        other = f", or runtime {able}" if able else ""
        return f"runtime {target.runtime} has no {scheme} files whose sizes vary{why}: {buckets}{other}"
    if target.quantize.repairs:
        return f"repairs are made at one size: leave them out, or {buckets}"
    if cores:
        return f"the program on device {min(cores)!r} gives files one size: {buckets}"
    return ""


def with_buckets(targets: Sequence[Target]) -> tuple[Target, ...]:
    """A target for each bucket, `NAME-320x320`, in the place of one with several sizes."""
    return tuple(
        part
        for target in targets
        for part in (
            [replace(target, name=f"{target.name}-{suffix(s)}", sizes=None, bucket=s) for s in target.sizes or ()]
            or [target]
        )
    )


def budgets_of_buckets(budgets: Sequence[Budget], targets: Sequence[Target]) -> tuple[Budget, ...]:
    """A budget on a target with several sizes holds for each of its files. targets: as the recipe has them."""
    parts = {target.name: with_buckets([target]) for target in targets if target.sizes}
    return tuple(
        each
        for budget in budgets
        for each in (
            [replace(budget, target=part.name) for part in parts[budget.target]] if budget.target in parts else [budget]
        )
    )
