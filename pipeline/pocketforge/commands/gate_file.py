"""A recipe of one model file made elsewhere, from what a command line says of it: `build` does the rest."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.recipe import METRICS, Recipe
from pocketforge.recipe.model import SHARED_DEFINITIONS
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import DEVICES

# What people call them.
_ALIASES = {"top1": "accuracy_top1", "top5": "accuracy_top5"}
_BUDGET = re.compile(
    r"(?P<metric>[\w.-]+)(?:\s+(?P<percentile>min|p50|p90|p99))?\s*(?P<sign>>=|<=)\s*(?P<limit>[-+\w.]+)"
    r"(?:\s+on\s+(?P<device>\S+))?\Z"
)
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What is asked of a model file.

    Attributes:
        file: Which.
        data: As a recipe's data.source; relative places are of the current folder.
        labels: A text file with a class a line; None for the source's own.
        preprocess: Lines of a recipe's [data.preprocess], or .toml files of such lines.
        budgets: As `accuracy_top1 >= 0.97`, `latency_ms p90 <= 5 on pixel`.
        devices: `host`, `adb`, `adb:SERIAL`, or a device profile to emulate; () for the host.
        reference: A model file or a PyTorch model (as model.definition), to hold the file against; empty for nothing.
        weights: Of a PyTorch reference; None where it brings its own.
        task: As a recipe's; empty for classification.
        layout: Of image inputs, NCHW or NHWC, if it has to be that one; empty for what the file has.
        eval_samples: At most so many; None for a recipe's default.
    """

    file: Path
    data: str
    labels: Path | None = None
    preprocess: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    reference: str = ""
    weights: Path | None = None
    task: str = ""
    layout: str = ""
    eval_samples: int | None = None


def recipe_for(request: FileRequest, *others: Path) -> Recipe:
    """The recipe that says the same. others: further files beside it. Raises RecipeError, in a recipe's words."""
    import tomlkit

    files = (request.file, *others)
    data: dict[str, object] = {"source": request.data}
    if request.labels is not None:
        data["labels"] = os.fspath(request.labels)
    if request.eval_samples is not None:
        data["eval_samples"] = request.eval_samples
    if request.preprocess:
        data["preprocess"] = _preprocess(request.preprocess)
    layout = {"layout": request.layout} if request.layout else {}
    names = _names(files)
    content: dict[str, object] = {
        "name": names[0],
        **({"task": request.task} if request.task else {}),
        **({"model": _model(request)} if request.reference else {}),
        "data": data,
        "target": [{"name": n, "file": os.fspath(file), **layout} for n, file in zip(names, files, strict=True)],
        **({"device": [_device(word) for word in dict.fromkeys(request.devices)]} if request.devices else {}),
        **({"budget": [_budget(text) for text in request.budgets]} if request.budgets else {}),
    }
    return parse_recipe(tomlkit.dumps(content), "what the options say", os.getcwd())


def _names(files: tuple[Path, ...]) -> list[str]:
    """Of the targets, by the files'."""
    names = [_NO_NAME.sub("_", file.stem).strip("._-") or "file" for file in files]
    return [name if names.count(name) == 1 else f"{name}-{'ab'[place]}" for place, name in enumerate(names)]


def _model(request: FileRequest) -> dict[str, object]:
    definition = request.reference
    place, colon, factory = definition.rpartition(":")
    if colon and place.endswith(".py"):
        if factory != "build":
            raise RecipeError(
                f"--reference {definition}: a model file's build() makes the model, found {factory!r}",
                f"write `def build(): return {factory}()` into {place}, and --reference {place}",
            )
        definition = place
    if not definition.startswith(SHARED_DEFINITIONS) and not Path(definition).expanduser().exists():
        raise RecipeError(f"--reference: no file {definition}", "a model file, a .py with build(), or torchvision:NAME")
    return {"definition": definition, **({"weights": os.fspath(request.weights)} if request.weights else {})}


def _preprocess(given: tuple[str, ...]) -> dict[str, object]:
    lines = []
    for text in given:
        path = Path(text)
        try:
            lines.append(path.read_text("utf-8") if path.suffix == ".toml" else text)
        except (OSError, ValueError) as error:
            raise RecipeError(f"--preprocess: cannot read {path}: {error}") from None
    try:
        return tomllib.loads("\n".join(lines))
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"--preprocess is not valid TOML: {error}", "as in a recipe's [data.preprocess]: 'resize = [224, 224]'"
        ) from None


def _device(word: str) -> dict[str, object]:
    """`adb` and `adb:SERIAL` are phones, `host` this machine; another word is a profile's."""
    via, _, serial = word.partition(":")
    if via == "adb":
        return {"via": "adb", **({"serial": serial, "name": _NO_NAME.sub("_", serial)} if serial else {})}
    if word in DEVICES and word != "emulator":
        return {"via": word}
    return {"via": "emulator", "profile": word}


def _budget(text: str) -> dict[str, object]:
    match = _BUDGET.match(text.strip())
    example = "'accuracy_top1 >= 0.97' or 'latency_ms p90 <= 5 on phone'"
    if match is None:
        raise RecipeError(f"--budget: wanted METRIC >= NUMBER or METRIC <= NUMBER, found {text!r}", f"as {example}")
    metric = _ALIASES.get(match["metric"], match["metric"])
    try:
        limit = float(match["limit"])
    except ValueError:
        raise RecipeError(f"--budget {text!r}: {match['limit']!r} is no number", f"as {example}") from None
    row = METRICS.if_usable(metric.rpartition(".")[2])
    sign = {"higher": ">=", "lower": "<="}[row.better] if row else match["sign"]
    if sign != match["sign"]:
        raise RecipeError(
            f"--budget {text!r}: of {metric} {'more' if sign == '>=' else 'less'} is better: a budget on it is {sign} …"
        )
    more = {key: match[key] for key in ("percentile", "device") if match[key]}
    return {"metric": metric, "limit": limit, **more}
