"""Stage `sensitivity`: what each layer's channels are worth, for `ratio = "auto"` and for whoever wants to see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketforge import events
from pocketforge.data.dataset import open_dataset
from pocketforge.files import resolver
from pocketforge.outcomes import files
from pocketforge.pruning.sensitivity import measure
from pocketforge.pruning.subject import gather, open_checkpoint, subject_for
from pocketforge.specs.sensitivity import SensitivitySpec
from pocketforge.training.loop import deterministic

# Of the train split, beside all calibration samples: enough to see a drop of 1 %.
TRAIN_SAMPLES = 1000


def run(inputs: Mapping[str, Path], spec: SensitivitySpec, out: Path, emit: events.Progress) -> None:
    """inputs: data_root, weights or checkpoint, labels.

    Writes sensitivity.json; the same inputs give the same bytes. Raises ModelError when no layer can be pruned.
    """
    data = open_dataset(spec.sampling.data, resolver(inputs.get("data_root")), inputs.get("labels"))
    with deterministic(spec.sampling.seed):
        subject = subject_for(open_checkpoint(inputs, spec.model), inputs, spec, emit)
        batches = [*subject.batches]
        if len(data.train):
            batches += gather(data.train, TRAIN_SAMPLES)
        outcome = measure(subject, spec.pruning, batches)
    files.write(out, outcome)
