"""What an app feeds to a target's file, against the recipe's own preprocessing: for `pocketforge why --app`."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketforge import events
from pocketforge.accuracy.exact import as_float
from pocketforge.accuracy.judging import make_judge
from pocketforge.accuracy.score import score
from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.data.dataset import Dataset, open_dataset
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.devices.outputs import stored_outputs
from pocketforge.errors import ModelError, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.files import explain_os_error, hash_file
from pocketforge.metrics import Array
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.why_app import AppCost, AppExplained
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Lane, Plan
from pocketforge.recipe import Recipe, suggest
from pocketforge.recipe.preprocess import lists_of
from pocketforge.registries import RUNTIMES
from pocketforge.run.part import run_part
from pocketforge.specs.data import DataSpec
from pocketforge.specs.verify import VerifySpec
from pocketforge.why.app_chain import Chain, chain_of, real
from pocketforge.why.app_dumps import read_dumps
from pocketforge.why.app_explain import explain
from pocketforge.why.app_samples import RawSamples, named_samples
from pocketforge.why.app_search import changed


@dataclass(frozen=True, slots=True)
class AppRequest:
    """What a user asks of an app's tensors.

    Attributes:
        paths: Of the tensors.
        samples: How many eval samples are looked at, from the first.
        given: Which sample each tensor is of, as ID or TENSOR=ID; those not named are searched for.
        dtype: Of plain bytes; empty for the file's own.
        shape: Of plain bytes; empty for the file's own.
        input: Name of the file's input that they are of; empty where it has one.
    """

    paths: tuple[Path, ...]
    samples: int
    given: tuple[str, ...] = ()
    dtype: str = ""
    shape: tuple[int, ...] = ()
    input: str = ""


def why_app(
    recipe: Recipe, target: str, cache: Path, asked: AppRequest, *, emit: events.Emit = events.ignore
) -> AppExplained:
    """Which known mistake explains what an app fed to the target's file. Raises ModelError for tensors that cannot be
    compared, and the first error that a step met."""
    plan = make_plan(recipe, gather(recipe, cache))
    lane = _lane(plan, target)
    if lane.target.file:
        raise RecipeError(
            f"--app: target {target!r} is a file made elsewhere: how an app prepares its samples is not compared",
            "run `pocketforge inspect` on it for what it takes",
        )
    entries = {
        key: entry.files
        for key, entry in run_part(plan, (lane.data, lane.reference, lane.export), cache, "why", emit).entries.items()
    }
    exported = files.read(entries[lane.export], Exported)
    if files.read(entries[lane.reference], Reference).sequence is not None:
        raise ModelError("--app: the model has states, which are fed back: its input is no sample's alone")
    labels = recipe.resolve(recipe.data.labels) if recipe.data.labels else None
    dataset = open_dataset(plan.spec(lane.data, DataSpec), recipe.resolve, labels)
    place, number = _input(exported, dataset, asked.input)
    chain = chain_of(dataset.preprocess, number, dataset.about, exported.inputs[place])
    dumps = read_dumps(asked.paths, chain.taken, asked.dtype, asked.shape)
    raw = RawSamples(dataset.eval, number, asked.samples)
    ids = dataset.eval.ids[: len(raw)]
    named = named_samples(dumps, ids, asked.given)
    answer = explain(chain, raw, ids, dumps, named)
    explained = dataclasses.replace(answer.explained, target=target)
    if not answer.best:
        return explained
    wrong = changed(chain, answer.best)
    if wrong is None:  # of real values that were dumped before they became levels
        notes = (*explained.notes, "what it costs is not known: the mistake is of values before they are quantized")
        return dataclasses.replace(explained, notes=notes)
    spec = plan.spec(lane.verify, VerifySpec)
    run = _File(
        recipe, spec, exported, {name: entries[getattr(lane, name)] for name in ("data", "reference", "export")}
    )
    try:
        right, found = run.figures(chain, raw, place), run.figures(wrong, raw, place)
    except ModelError as error:
        notes = (*explained.notes, f"what it costs is not known: {error.message}")
        return dataclasses.replace(explained, notes=notes)
    cost = tuple(AppCost(*key, right[key], found[key]) for key in right if key in found)
    return dataclasses.replace(explained, cost=cost)


def write_app(explained: AppExplained, folder: Path) -> list[Path]:
    """app.json. Raises StoreError."""
    path = folder / AppExplained.FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(files.to_json(explained), indent=1, sort_keys=True, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise explain_os_error(error, folder, "--out") from error
    return [path]


def _lane(plan: Plan, target: str) -> Lane:
    lanes = {lane.target.name: lane for lane in plan.lanes}
    if target not in lanes:
        raise RecipeError(
            f"the recipe has no target {target!r}{suggest(target, list(lanes))}", f"targets: {', '.join(lanes)}"
        )
    return lanes[target]


def _input(exported: Exported, dataset: Dataset, name: str) -> tuple[int, int]:
    """Place of the file's input, and of the raw input that it is made of. Raises ModelError."""
    names = [tensor.name for tensor in exported.inputs]
    if name and name not in names:
        raise ModelError(
            f"--input: the file has no input {name!r}{suggest(name, names)}", f"inputs: {', '.join(names)}"
        )
    if not name and len(names) > 1:
        raise ModelError(f"--app: the file has {len(names)} inputs: {', '.join(names)}", "say which with --input NAME")
    place = names.index(name) if name else 0
    if -1 in exported.inputs[place].shape:
        raise ModelError(
            f"--app: input {names[place]!r} has no fixed size: {exported.inputs[place]}",
            "give a target with a bucket, or of a model with fixed inputs",
        )
    at = 0
    for number, each in enumerate(lists_of(dataset.preprocess)):
        if at <= place < at + each.gives:
            return place, number
        at += each.gives
    return place, place


@dataclass(frozen=True, slots=True)
class _File:
    """A target's file with what it is judged by."""

    recipe: Recipe
    spec: VerifySpec
    exported: Exported
    folders: Mapping[str, Path]

    def figures(self, chain: Chain, raw: Sequence[Array], place: int) -> dict[tuple[str, str], float]:
        """(output, metric) → its value on the first samples, one input of which is made by `chain`."""
        samples = np.concatenate([real(chain.numbers(each), chain.taken) for each in raw])
        data = self.folders["data"]
        names = [tensor.name for tensor in files.read(self.folders["reference"], Reference).outputs]
        judge = make_judge(
            self.spec.judged, names, self.spec.task, data, files.read(data, Sampled), self.recipe.resolve
        )
        judge = dataclasses.replace(judge.first(len(samples)), slices=())
        path = self.exported.model_in(self.folders["export"])
        with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
            fed = []
            for number, array in enumerate(load_samples(data, "eval")):
                fed.append(Path(scratch, f"eval_{number}.npy"))
                np.save(fed[-1], samples if number == place else array[: len(samples)])
            out = Path(scratch, "outputs")
            session = RUNTIMES[self.spec.runtime].session
            answer = host.run(RunRequest(session, path, hash_file(path), tuple(fed), out))
            answers = {each.name: np.array(each.values) for each in stored_outputs(out, answer.outputs)}
        scored = score(judge, answers, "the file")
        return {
            (each.output.name, name): as_float(value) for each in scored for name, value in each.figures.values.items()
        }
