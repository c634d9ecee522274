"""`pocketforge init`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from pocketforge.cli.console import progress
from pocketforge.cli.options import cache_option, echo, progress_option
from pocketforge.errors import RecipeError
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.support import refusal
from pocketforge.registries import RUNTIMES, RuntimeInfo

TEMPLATE = """\
# A Pocketforge recipe. `pocketforge check {recipe}` tests it, `pocketforge build {recipe}` builds it.
# Paths are relative to this file. Every key: `pocketforge docs recipe`.
name = "{name}"
seed = 0 # splits, calibration and training follow from it
task = "classification" # or "regression"

[model]
{model}

# [[model.input]] # one for each input; by default what example_inputs() or the data gives
# shape = [1, 3, 224, 224] # batch 1 first
# dtype = "float32"

[data]
# Real, labelled samples: {sources}
source = {data}
# labels = "labels.txt" # one class name a line
eval_fraction = 0.3 # held out for verify; never used for calibration or training
eval_samples = 1000 # at most
calibration_samples = 100 # fix the int8 ranges

# What your app must do to a raw sample before it feeds the model. It is written into every file's sidecar.
{preprocess}

{compress}# One [[target]] is one file to ship. Delete what you do not need.
{targets}
# [[device]] # where files are timed; by default this host, one thread
# name = "host"
# threads = 1
# processes = 5 # each file is timed in so many new ones
# min_samples = 100 # in all of them
# min_seconds = 0.5

# [[device]] # and a phone's cores, emulated: exact instruction counts (once: pocketforge device setup emulator)
# via = "emulator"
# profile = "pixel4" # pocketforge device profiles lists them

# The build fails if one of these is not kept. Without a target it holds for all of them.
[[budget]]
metric = "accuracy_drop" # top-1 of the PyTorch model minus top-1 of the file
limit = 0.02

# [[budget]]
# metric = "size_bytes"
# limit = 4_000_000
# target = "{one_target}"

# [[budget]]
# metric = "latency_ms"
# percentile = "p90"
# limit = 20
"""

TARGET = """\
[[target]]
name = "{target}"
runtime = "{runtime}" # {about}
{lines}
"""
MODEL = """\
definition = {definition} # has build(**args), and optionally example_inputs()
{weights}
# args = {{ classes = 10 }} # what build() is called with"""
ARCHIVE = """\
definition = {definition} # a torch.export archive: it holds the weights too"""
# An archive is a traced graph: it cannot be trained.
COMPRESS = """\
# [[compress]] # made smaller before anything is quantized: half of the multiplications go …
# type = "prune_channels"
# goal = { metric = "macs", removed = 0.5 }
# [[compress]] # … and what is left is trained further, on the train split; more: `pocketforge docs compression`
# type = "finetune"
# epochs = 3

"""
WEIGHTS = "weights = {weights}"
NO_WEIGHTS = '# weights = "weights.safetensors" # or a PyTorch checkpoint'
PREPROCESS = """\
# [data.preprocess]
# resize = [224, 224] # height, width; bilinear
# color = "rgb"
# mean = [0.485, 0.456, 0.406] # after scaling to 0..1
# std = [0.229, 0.224, 0.225]"""


@click.command("init")
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--weights", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Trained weights.")
@click.option("--data", default="digits", show_default=True, help="Data source, as in the recipe's data.source.")
@click.option(
    "--recipe", "-o", type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: recipe.toml beside MODEL]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over an existing file.")
@cache_option
@progress_option
def command(
    model: Path,
    weights: Path | None,
    data: str,
    recipe: Path | None,
    force: bool,
    cache: Path,
    progress_mode: str,
) -> None:
    """Write a commented recipe for a model file, and check it.

    MODEL is the definition: a .py whose build() makes the module, or a .pt2 of torch.export. The recipe is kept also
    when the check finds something to mend: the message says what.
    """
    from pocketforge.commands.check import check
    from pocketforge.recipe.toml import parse_recipe

    if model.suffix == ".pt2" and weights is not None:
        raise RecipeError(f"{model.name} holds its own weights", "leave --weights out")
    if model.suffix not in (".py", ".pt2"):
        raise RecipeError(
            f"wanted a model definition, .py or .pt2, found {model}",
            "weights go with --weights; write a .py whose build() makes the module they belong to",
        )
    target = recipe if recipe is not None else model.with_name("recipe.toml")
    if target.exists() and not force:
        raise RecipeError(f"{target} exists", "give another name with --recipe, or --force to write over it")
    text = recipe_text(model, weights, data, target)
    loaded = parse_recipe(text, str(target), str(target.resolve().parent))
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {target}: {error.strerror}") from None
    echo(f"wrote {target}")
    with progress(progress_mode) as emit:
        checked = check(loaded, cache, emit)
    from pocketforge.report.checked import show_check

    show_check(checked)
    echo(f"next: pocketforge build {target}")


def recipe_text(model: Path, weights: Path | None, data: str, target: Path) -> str:
    """The recipe, with paths relative to where it will lie."""
    from pocketforge.recipe.data import FUNCTION, parse_source, written_sources
    from pocketforge.registries import SOURCES

    folder = target.resolve().parent

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), folder)).as_posix()

    kind, place = parse_source(data)
    if SOURCES[kind].place in ("DIR", "FILE") and place:
        data = f"{kind}:{relative(Path(place))}"
    elif kind == FUNCTION and ".py:" in data:
        file, _, function = data.partition(":")
        data = f"{relative(Path(file))}:{function}"
    name = re.sub("[^A-Za-z0-9_-]", "_", _model_name(model)).strip("-_") or "model"
    targets = [
        _target(name, runtime, info, first=number == 0) for number, (runtime, info) in enumerate(RUNTIMES.items())
    ]
    return TEMPLATE.format(
        targets="\n".join(targets),
        one_target=_target_name(name, list(RUNTIMES)[1]),
        recipe=target.name,
        name=name,
        model=(ARCHIVE if model.suffix == ".pt2" else MODEL).format(
            definition=_quoted(relative(model)),
            weights=WEIGHTS.format(weights=_quoted(relative(weights))) if weights else NO_WEIGHTS,
        ),
        data=_quoted(data),
        compress="" if model.suffix == ".pt2" else COMPRESS,
        sources=" | ".join(written_sources()),
        preprocess=SOURCES[kind].preprocess or PREPROCESS,
    )


def _target_name(name: str, runtime: str) -> str:
    return f"{name}_{runtime}" + ("" if refusal(runtime, Quantize("static_int8")) else "_int8")


def _target(name: str, runtime: str, info: RuntimeInfo, *, first: bool) -> str:
    """A [[target]] of a runtime. first: of the recipe, so with what the others need not say again."""
    lines = [f'quantize = {{ scheme = "static_int8" }}{" # or leave it out for fp32" if first else ""}']
    if why := refusal(runtime, Quantize("static_int8")):
        lines = [f"# {why}"]
    return TARGET.format(
        target=_target_name(name, runtime),
        runtime=runtime,
        about=f"{info.title}, {' and '.join(each.suffix for each in info.formats)}",
        lines="\n".join([*lines, *(f"# {hint}" for hint in info.hints)]),
    )


def _quoted(text: str) -> str:
    # A JSON string is a TOML one too, except for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _model_name(model: Path) -> str:
    # models/NAME/model.py is named by its folder.
    return model.resolve().parent.name if model.stem == "model" else model.stem
