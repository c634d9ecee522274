"""What `pocketforge package` does: the model file of a release, samples of its recipe, and the folder of code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pocketforge.commands.bench_files import stored
from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.data.base import Array, PreprocessStep
from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.data.preprocess import About, effective, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.devices.emulator.arrays import converted
from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.files import hash_file
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Preprocessing
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.verify import Verified
from pocketforge.package.generators import AppPictures, AppSamples, generate
from pocketforge.package.model import AppInput, AppModel, left_to_app, read_model
from pocketforge.package.output import check_folder, write_folder
from pocketforge.package.pictures import Fitting
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe, suggest
from pocketforge.recipe.preprocess import InputSteps, Preprocess
from pocketforge.recipe.shipped_names import MANIFEST, file_name
from pocketforge.recipe.toml import load_recipe
from pocketforge.release.sidecars import read_manifest
from pocketforge.results.output_folder import RELEASE
from pocketforge.run.reuse import reusable
from pocketforge.run.store import Store
from pocketforge.specs.data import DataSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        model: That the code calls.
        files: Paths in the folder, sorted.
        samples: How many the test beside it has.
    """

    model: AppModel
    files: tuple[str, ...]
    samples: int


def package(file: Path, kind: str, out: Path, *, samples: AppSamples | None, model: AppModel | None = None) -> Written:
    """Write code of a kind of GENERATORS for a release's model file. Raises ReleaseError, ModelError, RecipeError."""
    check_folder(out)
    model = model or read_model(file)
    found = generate(kind, model, samples)
    about = {"version": 1, "for": kind, "target": model.target, "sha256": model.sha256}
    write_folder(out, found, about)
    return Written(model, tuple(sorted(found)), samples.count if samples else 0)


def file_of_target(recipe: Path, target: str) -> Path:
    """The file of a recipe's target in its release, in build/NAME of the current folder. Raises RecipeError."""
    known = {each.name: each for each in load_recipe(recipe).targets}
    if not target and len(known) > 1:
        raise RecipeError(f"{recipe} has {len(known)} targets", f"choose one with --target: {', '.join(known)}")
    name = target or next(iter(known))
    if name not in known:
        raise RecipeError(f"no target is named {name!r}{suggest(name, list(known))}")
    folder = Path("build", load_recipe(recipe).name, RELEASE)
    if not (folder / MANIFEST).is_file():
        raise RecipeError(
            f"there is no release in {folder}", "pocketforge build RECIPE makes one, or give a release's model file"
        )
    written = {each.target: each.path for each in read_manifest(folder).files if each.role == "model"}
    return folder / written.get(name, file_name(name, known[name].runtime, "model", known[name].suffix))


def recipe_samples(recipe: Recipe, model: AppModel, cache: Path, count: int) -> tuple[AppModel, AppSamples]:
    """The first `count` eval samples of a recipe, as the build stored them, and the model with what they say of it:
    code makes pictures of bytes fit, and others are left to the app.

    Raises RecipeError where the recipe's built target is not the release's file.
    """
    plan = make_plan(recipe, gather(recipe, cache))
    lanes = [lane for lane in plan.lanes if lane.target.name == model.target]
    if not lanes:
        raise RecipeError(f"the recipe {recipe.name} has no target {model.target}, of which {model.path.name} is")
    (lane,) = lanes
    store = Store(cache)
    fits = reusable(plan, store)
    what = f"target {model.target!r}"
    data, export, verify = (
        stored(store, fits, key, name)
        for key, name in ((lane.data, "the recipe's data"), (lane.export, what), (lane.verify, what))
    )
    made = files.read(export.files, Exported).files
    roles = [role for role, name in made.items() if hash_file(export.files / name) == model.sha256]
    if not roles:
        raise RecipeError(
            f"{model.path} is of another build than {what} of the recipe is now", "build again, and take its release"
        )
    if not_judged := files.read(verify.files, Verified).not_judged:
        raise RecipeError(
            f"what {model.path.name} answered here is nothing to hold code against: {not_judged}",
            "give the release's model file, without --recipe: the code has no test of values then",
        )
    prepared = load_samples(data.files, "eval")
    count = min(count, len(prepared[0]))
    tensors = tuple(
        converted(np.asarray(array[:count]), each.tensor, model.path.name).reshape(count, *each.tensor.shape[1:])
        for array, each in zip(prepared, model.inputs, strict=True)
    )
    outputs = tuple(
        np.load(verify.files / roles[0] / f"outputs_{number}.npy", mmap_mode="r")[:count].copy()
        for number in range(len(model.outputs))
    )
    (spec,) = [step.spec for step in plan.steps if step.key == lane.data]
    labels = recipe.resolve(recipe.data.labels) if recipe.data.labels else None
    dataset = open_dataset(cast("DataSpec", spec), recipe.resolve, labels)
    raws = [dataset.source.sample(index)[0] for index in dataset.split.eval[:count]]
    rows = [_given(dataset, model.inputs, raw) for raw in raws]
    given = []
    for number, each in enumerate(model.inputs):
        found = [row[number] for row in rows]
        known = [values for values in found if values is not None]
        given.append(_fitting(np.stack(known) if known else tensors[number], each))
    inputs, pictures = _pictures(model, raws)
    samples = AppSamples(tuple(given), tensors, outputs, pictures)
    return dataclasses.replace(model, inputs=inputs), samples


def _pictures(model: AppModel, raws: Sequence[Sequence[Array]]) -> tuple[tuple[AppInput, ...], AppPictures]:
    """The model's inputs with what its samples say of them, and the pictures that code makes fit; none where none."""
    inputs: list[AppInput] = []
    pictures: list[tuple[NDArray[np.uint8], ...]] = []
    for number, each in enumerate(model.inputs):
        found = [_picture(raw[number], each.fit) for raw in raws] if each.fit else []
        known = tuple(picture for picture in found if picture is not None)
        fits = bool(known) and len(known) == len(raws)
        inputs.append(each if fits or not each.fit else left_to_app(each, _NO_BYTES))
        pictures.append(known if fits else ())
    return tuple(inputs), tuple(pictures) if any(pictures) else ()


_NO_BYTES = "the recipe's samples are no opaque pictures of bytes"


def _picture(raw: Array, fit: Fitting) -> NDArray[np.uint8] | None:
    """A raw sample as an app has it; None for one that is no picture of bytes, or whose transparency counts."""
    picture = raw[:, :, None] if raw.ndim == 2 else raw
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3, 4):
        return None
    if picture.shape[2] == 4:
        if not fit.drops_alpha_first and picture[:, :, 3].min() < 255:
            return None
        picture = picture[:, :, :3]
    found: Array = np.repeat(picture, 3, axis=2) if (picture.shape[2], fit.channels) == (1, 3) else picture
    return np.ascontiguousarray(found) if found.shape[2] == fit.channels else None


def _fitting(array: Array, taken: AppInput) -> Array:
    """In a type that the code takes. Raises RecipeError for values that it does not."""
    dtype = array.dtype.name if array.dtype.name in taken.accepts else taken.accepts[-1]
    fitting = np.ascontiguousarray(array.astype(dtype))
    if not np.array_equal(fitting, array) or fitting.size != len(array) * taken.size:
        raise RecipeError(
            f"samples of {taken.identifier} are {array.dtype} {list(array.shape[1:])}, its code takes "
            f"{' or '.join(taken.accepts)} {list(taken.shape)}"
        )
    return fitting.reshape(len(array), *taken.shape)


def _given(dataset: Dataset, inputs: Sequence[AppInput], raw: Sequence[Array]) -> list[Array | None]:
    """One sample as the code is given it: after the steps that are left to the app. None: as the file takes it."""
    plan = effective(dataset.preprocess, dataset.value_max)
    if plan is None:
        return [np.asarray(each) for each in raw]
    about = dataset.about
    if isinstance(plan, Preprocess):
        lists: tuple[InputSteps, ...] = (InputSteps(plan.steps(dataset.value_max)),)
        about = dataclasses.replace(about, as_images=True)
    else:
        lists = plan
    found: list[Array | None] = []
    for each, values in zip(lists, raw, strict=True):
        if each.gives > 1 or about.kind(each) == "text":
            found += [None] * each.gives
        else:
            taken = inputs[len(found)]
            done = (*taken.left, *(taken.fit.words if taken.fit else ()))
            found.append(_before(each, values, done, about))
    return found


def _before(each: InputSteps, raw: Array, left: Sequence[PreprocessStep], about: About) -> Array:
    wanted = _told(left)
    for count in range(len(each.step) + 1):
        part = InputSteps(each.step[:count])
        said = describe((part,), about)
        assert isinstance(said, Preprocessing)
        if _told(said.steps) == wanted:
            return prepare((part,), (raw,), about).inputs[0] if count else np.asarray(raw)
        if _told(said.steps[:-1]) == wanted and said.steps[-1]["step"] == "reverse_channels":
            return np.flip(prepare((part,), (raw,), about).inputs[0], -1)
    raise AssertionError(f"no part of {each} is {left}")


def _told(steps: Sequence[PreprocessStep]) -> list[PreprocessStep]:
    """Without casts to float32, which a short table does not tell."""
    return [step for step in steps if (step["step"], step.get("dtype")) != ("cast", "float32")]
