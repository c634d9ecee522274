"""A choice becomes a plain recipe: the base recipe's tables with one target, and with another [[compress]].

Made of the recipe's own TOML, and read by the one door that all recipes come through: what a trial was is what `build`
reads in the recommended file.
"""

from __future__ import annotations

import copy
import math
import tomllib
from dataclasses import dataclass
from typing import Any

from pocketforge.errors import RecipeError
from pocketforge.recipe import Recipe
from pocketforge.recipe.quantize import KEYS
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.toml import parse_recipe
from pocketforge.search.dimension import Choice
from pocketforge.search.space import FLOAT, NO_REPAIR, RATIO

Table = dict[str, Any]
# Keys of a `quantize` table that a trial may choose, where the scheme has them.
_OF_QUANTIZE = ("calibration", "calibration_samples", "backend")


@dataclass(frozen=True, slots=True)
class Base:
    """The recipe that trials are made of.

    Attributes:
        recipe: As it was read.
        text: Its TOML.
    """

    recipe: Recipe
    text: str

    @property
    def raw(self) -> Table:
        return tomllib.loads(self.text)


@dataclass(frozen=True, slots=True)
class Made:
    """A trial's recipe.

    Attributes:
        text: TOML of a plain recipe.
        recipe: The same, read.
    """

    text: str
    recipe: Recipe


def as_it_is(base: Base, target: str) -> Made:
    """The base recipe with one of its targets, else untouched: what a search is measured against."""
    return _read(base, _with_target(base.raw, target))


def trial_recipe(base: Base, choice: Choice, epochs_share: float | None = 1.0) -> Made:
    """The recipe of a choice. epochs_share: of its training; None leaves training out.

    Raises RecipeError where the choice breaks a rule of recipes (a scheme that the runtime has not).
    """
    raw = _with_target(base.raw, str(choice.get("target", base.recipe.targets[0].name)))
    (target,) = raw["target"]
    if "runtime" in choice:
        target["runtime"] = choice["runtime"]
    target["quantize"] = _quantize(target.get("quantize", {}), choice)
    if "resize" in choice:
        raw["data"]["preprocess"]["resize"] = [int(side) for side in str(choice["resize"]).split("x")]
    raw["compress"] = _compress(raw.get("compress", []), choice, epochs_share)
    if not raw["compress"]:
        del raw["compress"]
    return _read(base, raw)


def _read(base: Base, raw: Table) -> Made:
    import tomlkit

    text = tomlkit.dumps(raw)
    return Made(text, parse_recipe(text, "a trial's recipe", base.recipe.folder))


def _with_target(raw: Table, name: str) -> Table:
    """One target, and the budgets and waivers that are left with it; no [fit]."""
    raw.pop("fit", None)
    raw["target"] = [copy.deepcopy(each) for each in raw["target"] if each["name"] == name]
    if not raw["target"]:
        raise RecipeError(f"the recipe has no target {name!r} any more", "start the search anew: --fresh")
    for key in ("budget", "waiver"):
        raw[key] = [each for each in raw.get(key, []) if each.get("target", name) in ("", name)]
    metrics = {each["metric"] for each in raw["budget"]}
    raw["waiver"] = [each for each in raw["waiver"] if each["metric"] in metrics]
    return {key: value for key, value in raw.items() if value != []}


def _quantize(own: Table, choice: Choice) -> Table:
    """The target's own table with what was chosen; keys that the chosen scheme has no use for go."""
    scheme = str(choice.get("scheme", own.get("scheme", "fp32")))
    table = {**own, "scheme": scheme}
    table |= {key: choice[key] for key in _OF_QUANTIZE if key in choice}
    if "repairs" in choice:
        table["repairs"] = [] if choice["repairs"] == NO_REPAIR else str(choice["repairs"]).split("+")
    if "calibration" in choice and choice["calibration"] != "percentile":
        table.pop("percentile", None)
    left_float = [name.removeprefix(FLOAT) for name, value in choice.items() if name.startswith(FLOAT) and value]
    if left_float:
        table["overrides"] = [
            *table.get("overrides", []),
            *({"modules": each, "scheme": "fp32"} for each in left_float),
        ]
    known = SCHEMES[scheme].keys
    return {key: value for key, value in table.items() if (key not in KEYS or key in known) and value != []}


def _compress(own: list[Table], choice: Choice, epochs_share: float | None) -> list[Table]:
    """Blocks removed, then channels, then weights, then training; the recipe's own entries where nothing is chosen."""
    ratios = {
        pattern: float(value)
        for name, value in choice.items()
        if name.startswith(RATIO)
        for pattern in name.removeprefix(RATIO).split(" ")
    }
    made: list[Table] = []
    if "drop_blocks" not in choice:
        made += _of_type(own, "drop_layers")
    elif choice["drop_blocks"]:
        template = (_of_type(own, "drop_layers") or [{}])[0]
        made.append(
            {**_without(template, "count", "ratio", "goal"), "type": "drop_layers", "count": choice["drop_blocks"]}
        )
    if not ratios:
        made += _of_type(own, "prune_channels")
    elif any(ratios.values()):
        template = (_of_type(own, "prune_channels") or [{}])[0]
        entry = _without(template, "ratio", "ratios", "goal", "head_ratio", "steps", "finetune", "max_accuracy_drop")
        entry |= {"type": "prune_channels", "scope": "local"}
        entry |= {"importance": choice["importance"]} if "importance" in choice else {}
        entry |= {"ratio": ratios["*"]} if list(ratios) == ["*"] else {"ratios": ratios}
        made.append(entry)
    if "sparsity" not in choice:
        made += _of_type(own, "prune_unstructured")
    elif choice["sparsity"]:
        template = (_of_type(own, "prune_unstructured") or [{}])[0]
        entry = _without(template, "amount", "amounts", "n_m", "schedule", "scope")
        made.append({**entry, "type": "prune_unstructured", "scope": "global", "amount": choice["sparsity"]})
    return made + (_finetune(own, choice, epochs_share, changed=bool(made)) if epochs_share is not None else [])


def _finetune(own: list[Table], choice: Choice, epochs_share: float, *, changed: bool) -> list[Table]:
    """The recipe's last fine-tuning with what was chosen; none where a trial changes no weight and chose no epochs."""
    tuned = _of_type(own, "finetune")
    if "epochs" not in choice and not tuned:
        return []
    entry = {**(tuned[-1] if tuned else {}), "type": "finetune"}
    epochs = int(choice.get("epochs", entry.get("epochs", 3)))
    if not epochs:
        return []
    entry["epochs"] = max(1, math.ceil(epochs * epochs_share))
    if entry.get("warmup_epochs", 0) >= entry["epochs"]:
        entry["warmup_epochs"] = entry["epochs"] / 2
    if "lr" in choice:
        entry["lr"] = choice["lr"]
    if choice.get("distill") is False or ("distill" in choice and not changed):
        entry.pop("distill", None)  # of a model that nothing changed, it would be its own teacher
    elif choice.get("distill"):
        entry.setdefault("distill", {"temperature": 4.0, "alpha": 0.9})
    return [entry]


def epochs_of(made: Made) -> int:
    """How long a trial's recipe trains, in epochs of all its entries."""
    return sum(finetune.epochs for _, finetune in made.recipe.finetunes())


def _of_type(entries: list[Table], kind: str) -> list[Table]:
    return [copy.deepcopy(each) for each in entries if each.get("type") == kind]


def _without(table: Table, *keys: str) -> Table:
    return {key: value for key, value in table.items() if key not in keys}
