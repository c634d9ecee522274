"""QAT of the shipped digits model wins back what calibration alone loses, and its files compute what was trained."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import file_answers
import numpy as np
import pytest
from shared_store import DigitsParts

from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.recipe.compress import Distill, Finetune
from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.specs.data import data_spec
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.qat import QatSpec
from pocketforge.specs.quantize import QuantizeSpec
from pocketforge.specs.sampling import Sampling
from pocketforge.specs.trained import ModelSource

torch = pytest.importorskip("torch")

# Three levels a side and one scale a tensor: calibration alone loses most of the answers.
HARD = {"backend": "qnnpack", "weight_bits": 3}
TRAINING = Finetune(epochs=2, lr=1e-3, distill=Distill())


class Lane:
    """The digits recipe's stages, each run when it is first asked for."""

    def __init__(self, root: Path, parts: DigitsParts) -> None:
        recipe = parts.recipe
        self.root = root
        self.sampling = Sampling(data_spec(recipe.data, recipe.seed, recipe.task), recipe.seed, recipe.task)
        self.model = {"definition": "model.py", "args": {}, "task": recipe.task}
        self.inputs = {
            "data_root": Path(recipe.folder),
            "weights": recipe.resolve(recipe.model.weights),
            "labels": recipe.resolve(recipe.data.labels),
            "data": parts.data,
            "reference": parts.reference,
        }
        self.targets = np.load(self.inputs["data"] / "eval_targets.npy")

    def run(self, stage, spec, name="", **more) -> Path:
        out = self.root / (name or stage)
        if not out.exists():
            out.mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
                run = importlib.import_module(STAGES[stage].module).run
                run({**self.inputs, **more}, spec, out, lambda *_: None)
        return out

    def quantize(self, **how) -> Path:
        return self.run("quantize", QuantizeSpec(Quantize("static_int8", **how).settled()), "ptq")

    def qat(self, **how) -> Path:
        quantize = Quantize("qat_int8", finetune=TRAINING, **how)
        model = ModelSource("model.py", {}, 0)
        return self.run("qat", QatSpec(model, self.sampling, quantize.settled()))

    def accuracy(self, folder: Path) -> float:
        """Top-1 of the converted graph on the first eval samples (as many as the stage keeps)."""
        outputs = np.load(folder / "outputs_0.npy")
        return float((outputs.argmax(1) == self.targets[: len(outputs)]).mean())


@pytest.fixture(scope="module")
def lane(digits_parts, tmp_path_factory):
    return Lane(tmp_path_factory.mktemp("qat"), digits_parts)


def test_training_wins_back_what_calibration_loses(lane):
    reference = float((np.load(lane.inputs["reference"] / "outputs_0.npy").argmax(1) == lane.targets).mean())
    calibrated, trained = lane.accuracy(lane.quantize(**HARD)), lane.accuracy(lane.qat(**HARD))
    print(f"float {reference:.4f}, calibrated {calibrated:.4f}, trained {trained:.4f}")
    lost = reference - calibrated
    assert lost > 0.05  # hard enough that there is something to win back
    assert reference - trained < lost / 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_files_compute_what_was_trained(lane, runtime):
    folder = lane.qat(**HARD)
    spec = ExportSpec(runtime, "qat_int8", "NCHW", "NCHW", "float32", None)
    exported = lane.run("export", spec, f"export-{runtime}", quantize=folder)
    model = files.read(exported, Exported).model_in(exported)
    wanted = np.load(folder / "outputs_0.npy")
    (found,) = file_answers.answers(runtime, model, [np.load(lane.inputs["data"] / "eval_0.npy")[: len(wanted)]])
    agreement = float((found.argmax(1) == wanted.argmax(1)).mean())
    print(f"{runtime}: agreement {agreement:.4f}, {model.stat().st_size} bytes")
    assert found.shape == wanted.shape and agreement >= 0.99
