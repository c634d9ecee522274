"""Stage `finetune`: train the model further on the train split."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.dataset import open_dataset
from pipeline.data.files import resolver
from pipeline.models import build_model, check_finite, count_parameters, load_weights, save_weights
from pipeline.training.loop import fit

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Fine-tune with supervised labels.

    inputs: "data_root" (folder that the spec's relative paths are relative to), "definition" (the definition's file,
    else spec["definition"] in data_root), "checkpoint" (folder of an earlier finetune; wins over weights), "weights",
    "labels"; all may be absent. spec: definition, args, seed, finetune (Finetune's fields), data (the data stage's).
    Writes into `out`: model.safetensors, train.json. Raises ModelError as the model and the data do.
    """
    resolve = resolver(inputs.get("data_root"))
    definition = str(inputs["definition"]) if "definition" in inputs else spec["definition"]
    module = build_model(definition, spec["args"], resolve, seed=spec["seed"])
    if "checkpoint" in inputs:
        load_weights(module, inputs["checkpoint"] / "model.safetensors")
    elif "weights" in inputs:
        load_weights(module, inputs["weights"])
    data = open_dataset(spec["data"], resolve, inputs.get("labels"))
    settings = {name: value for name, value in spec["finetune"].items() if name != "type"}
    history = fit(module, data.train, **settings, seed=spec["seed"], emit=emit)
    check_finite(module.state_dict(), "the fine-tuned model")
    save_weights(module, out / "model.safetensors")
    # No times in it: the same inputs give the same bytes.
    report = {
        "version": 1,
        "train_samples": len(data.train),
        "parameters": count_parameters(module),
        "settings": settings,
        "history": history,
    }
    (out / "train.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", "utf-8")
