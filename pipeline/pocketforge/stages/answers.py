"""Stage `answers`: what a model file answers to the eval samples, for files made elsewhere to be held against.

In the place of `reference`, of recipes whose model is a file: no PyTorch is needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath

import numpy as np

from pocketforge import events
from pocketforge.accuracy.fits import check_targets
from pocketforge.accuracy.judging import make_judge
from pocketforge.accuracy.score import in_words, score
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.devices.outputs import stored_outputs
from pocketforge.errors import ModelError
from pocketforge.files import hash_file, resolver
from pocketforge.measure.fed_values import check_kind, check_values
from pocketforge.measure.file_fit import clean_names, fit_inputs, plain_names
from pocketforge.measure.foreign_file import given_samples, look_at, opened
from pocketforge.outcomes import files
from pocketforge.outcomes.accuracy import by_metric
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.recipe.budget import output_and_name
from pocketforge.registries import RUNTIMES
from pocketforge.specs.answers import AnswersSpec


def run(inputs: Mapping[str, Path], spec: AnswersSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "file", "data", "data_root" (the recipe's folder, for metrics of the user's).

    Writes outputs_0.npy … (one an output, of real values) and reference.json. Raises ModelError for a file that is
    damaged, does not fit samples, targets or labels, or answers NaN; ToolFailed where it does not load or run.
    """
    emit(0.0, f"reading {spec.name}")
    opened(inputs["file"], spec.name)
    path = out / f"model{PurePath(spec.name).suffix.lower()}"
    shutil.copyfile(inputs["file"], path)
    looked = look_at(path, spec.runtime, spec.name)
    data = files.read(inputs["data"], Sampled)
    given = given_samples(data, None)
    feeds = fit_inputs(spec.name, looked.inputs, given)
    samples = [sample_paths(inputs["data"], "eval")[place] for place in feeds]
    for tensor, each in zip(looked.inputs, samples, strict=True):
        check_values(spec.name, tensor, np.load(each, mmap_mode="r"))
    for tensor in looked.outputs:
        check_kind(spec.name, "output", tensor)
    emit(0.2, "running the eval samples")
    sha256 = hash_file(path)
    request = RunRequest(RUNTIMES[spec.runtime].session, path, sha256, tuple(samples), out / "run")
    answer = host.run(request)
    path.unlink()  # what it answered is what counts
    names = clean_names(answer.outputs)
    answers = {name: each.values for name, each in zip(names, stored_outputs(out / "run", answer.outputs), strict=True)}
    for number, (name, values) in enumerate(answers.items()):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelError(
                f"output {name!r} of {spec.name} holds NaN or infinity on real samples: nothing can be held against it",
                "is data.preprocess what the file was made for?",
            )
        np.save(out / f"outputs_{number}.npy", values)
    shutil.rmtree(out / "run")
    judge = make_judge(spec.judged, names, spec.task, inputs["data"], data, resolver(inputs.get("data_root")))
    check_targets(spec.task, answers, judge, data, spec.name)
    scores = tuple(in_words(each, judge) for each in score(judge, answers, spec.name, check=True))
    reference = Reference(
        parameters=None,
        macs=None,
        accuracy=by_metric(scores),
        eval_samples=judge.targets.count,
        # In the samples' order, as a PyTorch model's are.
        inputs=tuple(
            ModelTensor(plain_names(looked.inputs)[feeds.index(place)], (1, *each.shape), each.dtype)
            for place, each in enumerate(data.inputs)
        ),
        outputs=tuple(ModelTensor(name, (1, *each.shape[1:]), str(each.dtype)) for name, each in answers.items()),
        scores=scores,
        file=spec.name,
        file_sha256=sha256,
    )
    files.write(out, reference)
    emit(1.0, _summary(reference, spec.metric))


def _summary(reference: Reference, metric: str) -> str:
    _, name = output_and_name(metric)
    value = reference.accuracy.get(name)
    return f"{reference.eval_samples} samples" + (f", {name} {value:.4f}" if value is not None else "")
