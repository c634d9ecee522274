"""Stage `sensitivity`: what each layer's channels are worth, for `ratio = "auto"` and for whoever wants to see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketforge.data.dataset import open_dataset
from pocketforge.files import resolver
from pocketforge.pruning.base import Emit
from pocketforge.pruning.sensitivity import measure
from pocketforge.pruning.subject import gather, open_checkpoint, subject_for
from pocketforge.training.loop import deterministic

# Of the train split, beside all calibration samples: enough to see a drop of 1 %.
TRAIN_SAMPLES = 1000


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: data_root, weights or checkpoint, labels; spec: definition, args, seed, data, task, inputs, prune
    (importance, round_to, protect, max_ratio).

    Writes sensitivity.json; the same inputs give the same bytes. Raises ModelError when no layer can be pruned.
    """
    data = open_dataset(spec["data"], resolver(inputs.get("data_root")), inputs.get("labels"))
    with deterministic(spec["seed"]):
        subject = subject_for(open_checkpoint(inputs, spec), inputs, spec, emit)
        batches = [*subject.batches]
        if len(data.train):
            batches += gather(data.train, TRAIN_SAMPLES)
        found = measure(subject, spec["prune"], batches)
    (out / "sensitivity.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
