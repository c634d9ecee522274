"""Stage `sensitivity`: what each layer's channels are worth, for `ratio = "auto"` and for whoever wants to see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketforge import events
from pocketforge.data.dataset import open_dataset
from pocketforge.files import resolver
from pocketforge.model.tensor_names import names_of_outputs
from pocketforge.outcomes import files
from pocketforge.pruning.sensitivity import measure
from pocketforge.pruning.subject import gather, open_checkpoint, subject_for
from pocketforge.specs.sensitivity import SensitivitySpec
from pocketforge.training.judge import about_samples, standard_for
from pocketforge.training.loop import deterministic

# Of the train split, beside all calibration samples: enough to see a drop of 1 %.
TRAIN_SAMPLES = 1000


def run(inputs: Mapping[str, Path], spec: SensitivitySpec, out: Path, emit: events.Progress) -> None:
    """inputs: data_root, weights or checkpoint, labels.

    Writes sensitivity.json; the same inputs give the same bytes. Raises ModelError when no layer can be pruned.
    """
    resolve = resolver(inputs.get("data_root"))
    data = open_dataset(spec.sampling.data, resolve, inputs.get("labels"))
    checkpoint = open_checkpoint(inputs, spec.model)
    with deterministic(spec.sampling.seed), subject_for(checkpoint, inputs, spec, data, emit) as subject:
        batches = [*subject.batches]
        if len(data.train):
            batches += gather(data.train, TRAIN_SAMPLES)
        task, given = spec.sampling.task, spec.output_names
        names = names_of_outputs(checkpoint.module, subject.batches[0][0], spec.model, given, resolve)
        standard = standard_for(names, spec.outputs, task, spec.metric, about_samples(data), resolve)
        outcome = measure(subject, spec.pruning, batches, standard)
    files.write(out, outcome)
