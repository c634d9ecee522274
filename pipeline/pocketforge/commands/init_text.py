"""The recipe that `pocketforge init` writes: a commented text in which every comment is a key that works."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.recipe.data import FUNCTION, parse_source, written_sources
from pocketforge.recipe.metric import GIVEN_TASKS, Task
from pocketforge.recipe.model import SHARED_DEFINITIONS, definition_place
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.support import refusal
from pocketforge.registries import OUTPUT_TASKS, RUNTIMES, SOURCES, RuntimeInfo

TEMPLATE = """\
# A Pocketforge recipe. `pocketforge check {recipe}` tests it, `pocketforge build {recipe}` builds it.
# Paths are relative to this file. Every key: `pocketforge docs recipe`.
name = "{name}"
seed = 0 # splits, calibration and training follow from it
{task}

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
calibration_samples = {calibration}
{more}
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
{budget}

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
LIBRARY = """\
definition = {definition} # nothing is downloaded: without weights they are random
{weights}
{args}"""
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
ARGS = "args = {{ num_classes = {classes} }} # as many as the data has"
NO_ARGS = "# args = {} # what the library's builder is called with"
BUDGETS: Mapping[Task, str] = {
    "classification": """\
[[budget]]
metric = "accuracy_drop" # top-1 of the PyTorch model minus top-1 of the file
limit = 0.02""",
    "regression": """\
[[budget]]
metric = "parity_sqnr_db" # how near the file's answers are to the PyTorch model's
limit = 20""",
}
BUDGET_OF_OUTPUTS = """\
[[budget]]
metric = "{drop}" # of the PyTorch model minus of the file
limit = 0.02"""
LIBRARY_PREPROCESS = """\
[data.preprocess] # what {definition}'s own weights were trained on
resize = [{height}, {width}] # height, width; bilinear
color = "rgb"
mean = [{mean}] # after scaling to 0..1
std = [{std}]"""
PREPROCESS = """\
# [data.preprocess]
# resize = [224, 224] # height, width; bilinear
# color = "rgb"
# mean = [0.485, 0.456, 0.406] # after scaling to 0..1
# std = [0.229, 0.224, 0.225]"""


@dataclass(frozen=True, slots=True)
class Start:
    """What a recipe is begun from; paths are of the working folder.

    Attributes:
        model: The definition: a .py, a .pt2, `timm:NAME`, `torchvision:NAME` or `transformers:DIR`.
        weights: The weights file; None where the definition has them, or nobody gave any.
        data: The source, as in a recipe.
        task: What the model is for: a task, or one of OUTPUT_TASKS; empty for what the source's targets are for.
        recipe: The file to write.
    """

    model: str
    weights: Path | None
    data: str
    task: str
    recipe: Path

    @property
    def library(self) -> str:
        """The library whose model it is; empty for a file of the user's."""
        return self.model.partition(":")[0] if self.model.startswith(SHARED_DEFINITIONS) else ""

    @property
    def outputs(self) -> tuple[str, str]:
        """TOML of the model's outputs and the metric of the first budget; empty for a task of one target."""
        if self.task in OUTPUT_TASKS:
            _, outputs, drop = OUTPUT_TASKS[self.task]
            return outputs, drop
        source = SOURCES[parse_source(self.data)[0]]
        return ("", "") if self.task else (source.outputs, source.drop)

    @property
    def task_in_words(self) -> Task:
        """That of a recipe without outputs."""
        return "regression" if self.task == "regression" else "classification"

    @property
    def has_weights(self) -> bool:
        """Whether the definition is an archive, which holds them."""
        return self.model.endswith(".pt2")

    @property
    def name(self) -> str:
        """Of the recipe: as the model is called."""
        return re.sub("[^A-Za-z0-9_-]", "_", self._called()).strip("-_") or "model"

    def _called(self) -> str:
        if self.library:
            return self.model.partition(":")[2].rstrip("/").rpartition("/")[2]
        path = Path(self.model)
        # models/NAME/model.py is named by its folder.
        return path.resolve().parent.name if path.stem == "model" else path.stem


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about the data and the model beforehand. Without anything, the text has the defaults.

    Attributes:
        calibration: So many samples fix the int8 ranges.
        because: Why so many, in words; empty for the default.
        classes: Of the data; 0 where they are not known.
        preprocess: TOML of what the library's own weights were trained on; empty where nothing says it.
    """

    calibration: int = 100
    because: str = ""
    classes: int = 0
    preprocess: str = ""


def recipe_text(start: Start, found: Found | None = None) -> str:
    """The recipe, with paths relative to where it will lie."""
    found = found or Found()
    folder = start.recipe.resolve().parent

    def relative(path: str) -> str:
        return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix()

    kind, place = parse_source(start.data)
    data = start.data
    if SOURCES[kind].place in ("DIR", "FILE", "PATH") and place:
        data = f"{kind}:{relative(place)}"
    elif kind == FUNCTION and ".py:" in data:
        file, _, function = data.partition(":")
        data = f"{relative(file)}:{function}"
    definition = start.model
    if file := definition_place(start.model):
        definition = f"{start.library}:{relative(file)}".removeprefix(":")
    task, (outputs, drop) = start.task_in_words, start.outputs
    others = [f'"{other}"' for other in GIVEN_TASKS if other != task]
    targets = [
        _target(start.name, runtime, info, first=number == 0)
        for number, (runtime, info) in enumerate(RUNTIMES.usable().items())
    ]
    return TEMPLATE.format(
        targets="\n".join(targets),
        one_target=_target_name(start.name, list(RUNTIMES.ours)[1]),
        recipe=start.recipe.name,
        name=start.name,
        task=outputs or f'task = "{task}" # or {" or ".join(others)}, or [[output]] for each output',
        model=_model(start, definition, relative, found),
        data=quoted(data),
        calibration=f"{found.calibration} # fix the int8 ranges{found.because and f'; {found.because}'}",
        compress="" if start.has_weights else COMPRESS,
        sources=" | ".join(written_sources()),
        preprocess=found.preprocess or SOURCES[kind].preprocess or PREPROCESS,
        more="".join(f"# {line}\n" for line in SOURCES[kind].init),
        budget=BUDGET_OF_OUTPUTS.format(drop=drop) if outputs else BUDGETS[task],
    )


def _model(start: Start, definition: str, relative: Callable[[str], str], found: Found) -> str:
    weights = WEIGHTS.format(weights=quoted(relative(str(start.weights)))) if start.weights else NO_WEIGHTS
    if start.has_weights:
        return ARCHIVE.format(definition=quoted(definition))
    if not start.library:
        return MODEL.format(definition=quoted(definition), weights=weights)
    scored = start.task in ("", "classification", "segmentation")
    known = found.classes and scored and start.library != "transformers"
    args = ARGS.format(classes=found.classes) if known else NO_ARGS
    return LIBRARY.format(definition=quoted(definition), weights=weights, args=args)


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


def quoted(text: str) -> str:
    """As TOML has it."""
    # A JSON string is a TOML one too, except for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
