"""What `pocketforge check` does: the trunk of a build without its training, so every mistake of a user's shows that is
not in one sample alone."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from pocketforge import events
from pocketforge.errors import ModelError
from pocketforge.facts.gather import gather
from pocketforge.outcomes.annotate import Annotated
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.plan.annotate import with_annotations
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Lane
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import MORE_TO_TRAIN_ON
from pocketforge.recipe.data import parse_source
from pocketforge.recipe.image_steps import CenterCrop, Pad, Resize
from pocketforge.recipe.preprocess import InputSteps, Preprocess
from pocketforge.registries import SOURCES
from pocketforge.results.app_size import check_app
from pocketforge.results.checked import Checked, CheckedFile, TargetNumbers, in_runtime
from pocketforge.results.shares import shares_warnings
from pocketforge.run.part import run_part
from pocketforge.run.walk import Outcome

# A MobileNet answers so many colour images of 224 × 224 in 3 s of one core: all that `check` does then takes about 11.
# More of them say no more of whether the model, the data and the recipe fit.
_SAMPLES = 100
_VALUES = _SAMPLES * 3 * 224 * 224
# Steps that may say how large an image is after them.
_SIZING = (Resize, CenterCrop, Pad)


def check(recipe: Recipe, cache: Path, emit: events.Emit = events.ignore, *, all_samples: bool = False) -> Checked:
    """Run the data and reference stages, and each target's quantizer as far as it goes without calibration; returns
    what they found. Raises the first error they met.

    all_samples: evaluate on every eval sample, as a build does, which then goes on from there. Else of large samples on
    `_SAMPLES` alone.
    """
    asked = recipe.data.eval_samples
    evaluated = asked if all_samples else few_enough(recipe)
    data = dataclasses.replace(recipe.data, eval_samples=evaluated)
    untrained = dataclasses.replace(recipe, compress=(), data=data)
    facts = gather(untrained, cache)
    check_app(recipe)
    plan, annotations = with_annotations(make_plan(untrained, facts), untrained, facts)
    made = [lane for lane in plan.lanes if lane.target.file]
    keys = [key for key in (plan.data, plan.reference, *annotations.values(), *(lane.export for lane in made)) if key]
    outcome = run_part(plan, keys, cache, "check", emit)
    sampled, model = outcome.result(plan.data, Sampled), outcome.result(plan.reference, Reference)
    assert sampled is not None and (model is not None or not plan.reference), "run_part raises where a step has none"
    counts = sampled.counts
    _check_training(recipe, counts.train)
    in_build = min(asked, counts.eval + counts.held_out)
    counts = dataclasses.replace(counts, eval=in_build, held_out=counts.held_out + counts.eval - in_build)
    return Checked(
        dataclasses.replace(sampled, counts=counts),
        model,
        (*facts.data_notes, *sampled.notes),
        tuple(target.name for target in recipe.targets),
        losses_in_words(recipe),
        tuple(
            TargetNumbers(
                target.name,
                target.runtime,
                target.quantize.scheme,
                in_runtime(_annotated(outcome, annotations[target.name]), target.runtime),
            )
            for target in recipe.targets
            if target.name in annotations
        ),
        tuple(shares_warnings(recipe, model)) if model else (),
        tuple(_checked_file(lane, outcome) for lane in made),
    )


def _checked_file(lane: Lane, outcome: Outcome) -> CheckedFile:
    exported, found = outcome.result(lane.export, Exported), outcome.result(lane.export, Elsewhere)
    assert exported is not None and found is not None, "run_part raises where a step has no result"
    return CheckedFile(
        lane.target.name, found.file, found.scheme, exported.inputs, exported.outputs, found.against, exported.warnings
    )


def _check_training(recipe: Recipe, samples: int) -> None:
    """Raises ModelError where too few samples are left to train on: those of calibration and eval are never."""
    entries = recipe.finetunes()
    entries += [
        (f"target[{index}] ({target.quantize.scheme})", target.quantize.settings)
        for index, target in enumerate(recipe.targets)
        if target.quantize.info.is_trained and target.quantize.finetune is None
    ]
    for where, entry in entries:
        if too_few := entry.too_few(samples):
            raise ModelError(f"{where}: {too_few}", MORE_TO_TRAIN_ON)


def losses_in_words(recipe: Recipe) -> tuple[str, ...]:
    """What each output is trained by, where the recipe trains outputs with roles: by their own losses, or the user's of
    all."""
    if recipe.task != "outputs":
        return ()
    words = []
    for output in recipe.judged if any(recipe.going_by_losses()) else ():
        name = output.name or "the output"
        weight = "" if output.loss.weight == 1 else f" × {output.loss.weight:g}"
        words.append(f"{name} {output.trained_by}{weight}")
    words += [f"all in {where} {entry.loss}" for where, entry in recipe.finetunes() if entry.loss]
    return tuple(words)


def _annotated(outcome: Outcome, key: str) -> Annotated:
    annotated = outcome.result(key, Annotated)
    assert annotated is not None, "run_part raises where a step has no result"
    return annotated


def few_enough(recipe: Recipe) -> int:
    """How many eval samples are evaluated quickly; of small ones all that are asked for.

    What a sample holds is known from the model's inputs in the recipe, or from the size of its images; where neither is
    there, only images are taken to be large.
    """
    pixels = _pixels(recipe.data.preprocess)
    if recipe.model.inputs:
        values = sum(math.prod(each.shape) for each in recipe.model.inputs)
    elif pixels:
        values = 3 * pixels
    else:
        kind, _ = parse_source(recipe.data.source)
        values = _VALUES if SOURCES[kind].largest and SOURCES[kind].place else 1
    return min(recipe.data.eval_samples, max(_SAMPLES, _VALUES // max(values, 1)))


def _pixels(preprocess: Preprocess | tuple[InputSteps, ...] | None) -> int:
    """Of the largest image that preprocessing makes; 0 where it does not fix a size."""
    if preprocess is None or isinstance(preprocess, Preprocess):
        return math.prod(preprocess.resize) if preprocess and preprocess.resize else 0
    last = [
        next((step.size or getattr(step, "fit", ()) for step in reversed(each.step) if isinstance(step, _SIZING)), ())
        for each in preprocess
    ]
    return max((math.prod(size) for size in last if size), default=0)
