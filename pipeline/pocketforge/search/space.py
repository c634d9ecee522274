"""From `[fit.space]`, or from nothing but the recipe and its model's layers, to dimensions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pocketforge.errors import RecipeError
from pocketforge.recipe import PruneGroup, Recipe, Space
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.quantize import Calibration, Quantize
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.support import refusal
from pocketforge.search.dimension import Dimension, Value

# Names of dimensions, with what follows of those that there are several of.
RATIO, FLOAT = "ratio ", "float "
NO_REPAIR = "none"
# Of a space that nobody wrote: the cheapest schemes that change no weight's training.
_SCHEMES = ("fp32", "fp16", "static_int8", "dynamic_int8", "weight_only_int8")
_RATIOS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
_CALIBRATIONS: tuple[Calibration, ...] = ("histogram", "minmax", "mse")
_LR_AROUND = 3.0
# More groups than these are merged: each is a dimension, and trials are few.
_MOST_GROUPS = 6
_NAMES = (
    ("target", "target_names"),
    ("runtime", "runtimes"),
    ("scheme", "schemes"),
    ("calibration", "calibrations"),
    ("backend", "backends"),
    ("importance", "importances"),
    ("distill", "distill"),
)
_ORDERED = (
    ("calibration_samples", "calibration_samples"),
    ("sparsity", "sparsities"),
    ("drop_blocks", "drop_blocks"),
    ("epochs", "epochs"),
)


def space_of(recipe: Recipe, groups: Sequence[str]) -> Space:
    """The recipe's own space, or the default one. groups: patterns over the layers of each of the model's stages."""
    own = recipe.fit.space if recipe.fit else None
    space = own or default_space(recipe, groups)
    return space if space.target_names else dataclasses.replace(space, target_names=_fitted(recipe))


def default_space(recipe: Recipe, groups: Sequence[str]) -> Space:
    """Each stage's share of channels, the schemes that all runtimes take, calibration, and how long it is trained."""
    made = [target for target in recipe.targets if not target.file]
    schemes = [name for name in _SCHEMES if not any(refusal(each.runtime, Quantize(name)) for each in made)]
    schemes += [each.quantize.scheme for each in made if each.quantize.scheme not in schemes]
    tuned = finetune_of(recipe)
    return Space(
        target_names=_fitted(recipe),
        schemes=tuple(dict.fromkeys(schemes)),
        calibrations=_CALIBRATIONS if any(SCHEMES[name].calibrates for name in schemes) else (),
        prune=tuple(PruneGroup(_RATIOS, (pattern,)) for pattern in groups),
        epochs=tuple(dict.fromkeys((tuned.epochs, 2 * tuned.epochs))),
        lr=(tuned.lr / _LR_AROUND, min(tuned.lr * _LR_AROUND, 100.0)),
        distill=(False, True) if recipe.task == "classification" else (),
    )


def dimensions_of(space: Space) -> tuple[Dimension, ...]:
    """What is left to choose; a key with one value is none. Raises RecipeError where that is nothing."""
    found = [Dimension(name, "names", tuple(getattr(space, key))) for name, key in _NAMES]
    repairs = tuple("+".join(each) or NO_REPAIR for each in space.repairs)
    found.append(Dimension("repairs", "names", repairs))
    found.append(Dimension("resize", "names", tuple(f"{height}x{width}" for height, width in space.resize)))
    found += [Dimension(FLOAT + pattern, "names", (False, True)) for pattern in space.float_layers]
    found += [Dimension(name, "ordered", tuple(sorted(getattr(space, key)))) for name, key in _ORDERED]
    found += [Dimension(ratio_name(group), "ordered", tuple(sorted(group.ratios))) for group in space.prune]
    if space.lr:
        found.append(Dimension("lr", "log", tuple(space.lr)))
    chosen = tuple(each for each in found if len(each.values) > 1)
    if not chosen:
        raise RecipeError(
            "the space leaves nothing to choose: every key of it has one value",
            "give a key of [fit.space] two values or more, or leave the table out for the default space",
        )
    return chosen


def fixed_of(space: Space) -> dict[str, Value]:
    """The values of the keys that leave no choice, under the names of dimensions."""
    fixed: dict[str, Value] = {}
    for name, key in (*_NAMES, *_ORDERED):
        if len(values := getattr(space, key)) == 1:
            fixed[name] = values[0]
    if len(space.repairs) == 1:
        fixed["repairs"] = "+".join(space.repairs[0]) or NO_REPAIR
    if len(space.resize) == 1:
        fixed["resize"] = "{}x{}".format(*space.resize[0])
    fixed |= {ratio_name(group): group.ratios[0] for group in space.prune if len(group.ratios) == 1}
    return fixed


def ratio_name(group: PruneGroup) -> str:
    return RATIO + (" ".join(group.layers) or "*")


def finetune_of(recipe: Recipe) -> Finetune:
    """The recipe's last fine-tuning, whose other settings trials keep; else the default one."""
    return next((each for each in reversed(recipe.compress) if isinstance(each, Finetune)), Finetune())


def _fitted(recipe: Recipe) -> tuple[str, ...]:
    names = tuple(target.name for target in recipe.targets if not target.file)
    if not names:
        raise RecipeError(
            "every target of the recipe is a file made elsewhere, and fit changes what files are made of",
            "name a PyTorch model in model.definition, and a [[target]] without `file`",
        )
    return names


def stage_groups(layers: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Patterns over the layers that have channels, one for each stage: modules side by side below one parent.

    layers: name and kind of each (`commands/model.py`). The last linear layer makes the answers and is of none.
    """
    names = [str(each["name"]) for each in layers if str(each["kind"]).startswith(("Conv", "Linear"))]
    if names and str(next(each["kind"] for each in layers if each["name"] == names[-1])) == "Linear":
        names = names[:-1]
    for depth in (2, 1):
        heads = list(dict.fromkeys(_head(name, depth) for name in names))
        stages = [head for head in heads if head.endswith("*")]
        # A stem of one layer goes with the stage whose sum it is part of.
        if len(stages or heads) <= _MOST_GROUPS:
            return tuple(stages or heads)
    return ("*",) if names else ()


def _head(name: str, depth: int) -> str:
    """`layer1.0.conv1` → `layer1.*`; `features.3.conv` at depth 2 → `features.3.*`."""
    parts = name.split(".")
    return name if len(parts) <= depth else ".".join([*parts[:depth], "*"])
