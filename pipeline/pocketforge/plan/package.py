"""The steps of a target whose file does something of the app's side: takes raw samples, or gives finished answers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pocketforge.plan.builder import Steps
from pocketforge.recipe import Data, Recipe, Target
from pocketforge.recipe.consumers import as_mediapipe_resizes, text_step
from pocketforge.recipe.data import is_of_images
from pocketforge.recipe.output import Output
from pocketforge.recipe.packed import Cut, cut, judged_as_packed
from pocketforge.specs.package import PackageSpec


@dataclass(frozen=True, slots=True)
class Packed:
    """What a lane goes on from.

    Attributes:
        data: Key of the step whose samples the file is fed.
        reference: Key of the step that traced the model, or packed that.
        quantize: Key of the step that quantized it, or packed that; empty for a float target.
        judged: The recipe's outputs, as the file gives them.
        layout: Of image inputs as the packed graph takes them; empty where nothing was put before them.
    """

    data: str
    reference: str
    quantize: str
    judged: tuple[Output, ...]
    layout: str = ""


def pixel_data(recipe: Recipe, target: Target) -> Data:
    """The recipe's data with samples as an app has them before a file's own arithmetic: pixels, PCM."""
    return dataclasses.replace(recipe.data, preprocess=_cut(recipe, target).outside)


def takes_pictures(recipe: Recipe, target: Target) -> bool:
    """Whether the target's file is of images."""
    if text_step(recipe.data.preprocess):
        return False
    return any(each.kind == "image" for each in _cut(recipe, target).inside)


def resized_by_mediapipe(recipe: Recipe, target: Target) -> Data | None:
    """What the target's file is fed where an app hands whole pictures to MediaPipe; None where that is the same."""
    data = pixel_data(recipe, target) if target.package.inside else recipe.data
    preprocess = as_mediapipe_resizes(data.preprocess, images=is_of_images(data.source))
    return dataclasses.replace(data, preprocess=preprocess) if preprocess else None


def _cut(recipe: Recipe, target: Target) -> Cut:
    return cut(recipe.data.preprocess, target.layout, images=is_of_images(recipe.data.source))


def packed_spec(recipe: Recipe, target: Target) -> PackageSpec | None:
    """What is put around the model; None of a target whose file is the model alone."""
    if not target.package.packs:
        return None
    inside = _cut(recipe, target).inside if target.package.inside else ()
    return PackageSpec(target.package, inside, recipe.task, recipe.judged)


def add_package(build: Steps, recipe: Recipe, target: Target, unpacked: Packed, raw: str) -> Packed:
    """Lay out the steps that pack the traced graph, and the quantized ones. raw: key of the step that reads what the
    file takes."""
    spec = packed_spec(recipe, target)
    assert spec is not None, "asked of a target that packs"
    inside = spec.inside
    needs = {"data": raw, "prepared": unpacked.data}
    reference = build.add("package", target.name, spec, {**needs, "reference": unpacked.reference})
    quantize = unpacked.quantize
    if quantize:
        quantize = build.add(
            "package",
            target.name,
            spec,
            {**needs, "reference": unpacked.reference, "quantize": quantize},
            also=("torchao", "executorch", *target.quantize.info.libraries),
        )
    layouts = [each.layout for each in inside if each.layout]
    return Packed(
        raw, reference, quantize, judged_as_packed(target.package, recipe.judged), layouts[0] if layouts else ""
    )
