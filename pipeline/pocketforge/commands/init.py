"""What `pocketforge init` does: looks at a model and its data, writes a commented recipe for them, and checks it."""

from __future__ import annotations

from pathlib import Path

from pocketforge.commands.init_text import LIBRARY_PREPROCESS, Found, Start, recipe_text
from pocketforge.data import open_source
from pocketforge.data.base import Source
from pocketforge.data.guess import guess_source
from pocketforge.data.split import split_samples
from pocketforge.errors import PocketforgeError, RecipeError
from pocketforge.files import resolver
from pocketforge.recipe import Recipe
from pocketforge.recipe.data import FUNCTION, Data, parse_source
from pocketforge.recipe.metric import GIVEN_TASKS
from pocketforge.recipe.model import definition_place
from pocketforge.recipe.quantize import LEAST_CALIBRATION_SAMPLES
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import OUTPUT_TASKS, SOURCES

_KINDS = "a .py whose build() makes the module, a .pt2 of torch.export, timm:NAME, torchvision:NAME or transformers:DIR"


def place(model: str, recipe: Path | None, *, force: bool) -> Path:
    """Where the recipe goes: where it was asked for, beside a file of the user's, else into the working folder.

    Raises RecipeError where there is one already.
    """
    beside = Path(model).with_name("recipe.toml") if definition_place(model) == model else Path("recipe.toml")
    target = recipe or beside
    if target.exists() and not force:
        raise RecipeError(f"{target} exists", "give another name with --recipe, or --force to write over it")
    return target


def begin(model: str, weights: Path | None, data: str, task: str, recipe: Path) -> Start:
    """What a recipe is begun from, with the source guessed where `data` is but a path. recipe: the file to write.

    Raises RecipeError for a model or data that there is not, or that cannot be told, and for a task that the data's
    targets are not for.
    """
    start = Start(check_model(model), weights, told_source(data, task), task, recipe)
    _check_task(start)
    if start.has_weights and weights is not None:
        raise RecipeError(f"{Path(model).name} holds its own weights", "leave --weights out")
    return start


def _check_task(start: Start) -> None:
    kind, _ = parse_source(start.data)
    source = SOURCES[kind]
    if kind == FUNCTION or not start.task:
        return
    able = [task for task, (target, _, _) in OUTPUT_TASKS.items() if target in source.targets]
    if start.task in able or (start.task in GIVEN_TASKS and not source.outputs):
        return
    able = able if source.outputs else [*GIVEN_TASKS, *able]
    raise RecipeError(
        f"--task {start.task}: data source {kind} has {', '.join(source.targets)}",
        f"it is for --task {' or '.join(able)}",
    )


def write(start: Start) -> Recipe:
    """Write the recipe's file.

    Raises RecipeError where it cannot be written, ModelError and ToolMissing for a library's model that there is not,
    and then leaves nothing behind.
    """
    text = recipe_text(start, look(start))
    recipe = parse_recipe(text, str(start.recipe), str(start.recipe.resolve().parent))
    try:
        start.recipe.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {start.recipe}: {error.strerror}") from None
    return recipe


def check_model(model: str) -> str:
    """The definition as it was given. Raises RecipeError for what is none."""
    file, library = definition_place(model), model.partition(":")[0]
    if not file:
        if model.endswith(":"):
            raise RecipeError(f"{model} names no model", f"as in {library}:mobilenetv3_small_100")
        return model
    if not Path(file).exists():
        near = "" if Path(file).suffix else f"; a library's model is named with it: timm:{model}, torchvision:{model}"
        raise RecipeError(f"there is no {file}", f"MODEL is {_KINDS}{near}")
    if file == model and (Path(file).suffix not in (".py", ".pt2") or Path(file).is_dir()):
        raise RecipeError(
            f"wanted a model definition, {_KINDS}, found {model}",
            "weights go with --weights; write a .py whose build() makes the module they belong to",
        )
    return model


def told_source(data: str, task: str = "") -> str:
    """A source as a recipe has it, guessed for a path that is named without saying what it is, among those that a task
    has targets of. Raises RecipeError."""
    word = data.partition(":")[0]
    if (word not in SOURCES or word == FUNCTION) and data and Path(data).exists():
        target = OUTPUT_TASKS[task][0] if task in OUTPUT_TASKS else "label" if task == "classification" else ""
        return guess_source(Path(data), target)
    try:
        Data(data)
    except ValueError as error:
        raise RecipeError(f"--data: {error}", "or the path of a folder: what it holds is looked at") from None
    return data


def look(start: Start) -> Found:
    """What there is to know before the recipe is written.

    A source that cannot be opened is `check`'s to tell: the recipe then has the defaults.
    """
    preprocess = _preprocess(start) if start.library in ("timm", "torchvision") else ""
    kind, written = parse_source(start.data)
    if kind == FUNCTION or not (written or preprocess):  # code of the user's is run in a process of its own alone
        return Found(preprocess=preprocess)
    try:
        source = open_source(start.data, resolver(None))
    except (PocketforgeError, OSError):
        return Found(preprocess=preprocess)
    calibration, because = _calibration(source)
    return Found(calibration, because, len(source.labels), preprocess)


def _calibration(source: Source) -> tuple[int, str]:
    """How many samples may calibrate, and why they are fewer than the default."""
    wanted = Found().calibration
    asked = Data("digits")  # as the recipe will have it
    try:
        split = split_samples(
            source.ids,
            source.split,
            seed=0,
            eval_fraction=asked.eval_fraction,
            eval_samples=asked.eval_samples,
            calibration_samples=1,
        )
    except PocketforgeError:  # too few for any number: `check` tells
        return wanted, ""
    rest = len(split.calibration) + len(split.train)
    if rest >= 2 * wanted:
        return wanted, ""
    # Of fewer than may calibrate `check` tells, with the recipe there to be mended.
    fitted = max(rest // 2, LEAST_CALIBRATION_SAMPLES)
    return fitted, f"{rest} samples are not evaluated, and half of them are left to train on"


def _preprocess(start: Start) -> str:
    from pocketforge.model.library_inputs import library_input

    known = library_input(start.library, start.model.partition(":")[2])
    if known is None:
        return ""
    (height, width), numbers = known.resize, (", ".join(map(str, each)) for each in (known.mean, known.std))
    mean, std = numbers
    return LIBRARY_PREPROCESS.format(definition=start.model, height=height, width=width, mean=mean, std=std)
