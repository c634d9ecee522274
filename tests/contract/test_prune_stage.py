"""The prune and sensitivity stages on a small trained net: chained entries, parts, masks, a measured latency goal."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from trunk_specs import finetune_spec, model_source, sampling

from pocketforge.errors import ModelError
from pocketforge.model.surgery import load_checkpoint
from pocketforge.outcomes import files
from pocketforge.outcomes.prune import ChannelsReport, PruneOutcome, ReachedGoal
from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.outcomes.train import TrainOutcome
from pocketforge.recipe import Data, Preprocess
from pocketforge.recipe.compress import DropLayers, Finetune, Goal, PruneChannels, PruneUnstructured
from pocketforge.recipe.output import output_of_task
from pocketforge.specs.base import Spec
from pocketforge.specs.count import EmulatedPlace
from pocketforge.specs.prune import PruneSpec, Pruning, Trials
from pocketforge.specs.sensitivity import SensitivitySpec, studied
from pocketforge.stages import finetune, prune, sensitivity

DATA = Data("digits", calibration_samples=100, preprocess=Preprocess(scale=16.0))

PROFILE = Path(__file__).parents[2] / "device_profiles" / "pixel4.toml"

pytestmark = pytest.mark.filterwarnings("ignore")  # the toolchains deprecate parts of each other

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.hidden = nn.Linear(16 * 16, wide)
        self.last = nn.Linear(wide, 10)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = nn.functional.max_pool2d(torch.relu(self.second(x)), 2)
        return self.last(torch.relu(self.hidden(x.flatten(1))))

def build(wide=32):
    return Net(wide)
"""


@dataclasses.dataclass
class Bench:
    """Runs stages one after the other, as a build does."""

    folder: Path
    args: dict[str, Any]
    last: Path | None = None
    count: int = 0

    def run(self, stage: Any, spec: Spec, **inputs: Path) -> Path:
        self.count += 1
        out = self.folder / str(self.count)
        out.mkdir()
        given = {"data_root": self.folder, **({"checkpoint": self.last} if self.last else {}), **inputs}
        stage.run(given, spec, out, lambda _fraction, _message: None)
        return out

    def prune(
        self, entry: Pruning, part: tuple[int, int] = (1, 1), trials: Trials | None = None, **inputs: Path
    ) -> PruneOutcome:
        spec = PruneSpec(model_source(self.args), (), sampling(DATA), entry, *part, trials)
        self.last = self.run(prune, spec, **inputs)
        return files.read(self.last, PruneOutcome)

    def tune(self, **settings: Any) -> TrainOutcome:
        entry = Finetune(**{"epochs": 2, "lr": 3e-3, **settings})
        self.last = self.run(finetune, finetune_spec(DATA, entry, args=self.args))
        return files.read(self.last, TrainOutcome)

    def module(self) -> torch.nn.Module:
        assert self.last is not None
        return load_checkpoint(self.last, resolve=lambda path: self.folder / path).module


def goal_of(outcome: PruneOutcome) -> ReachedGoal:
    assert isinstance(outcome.report, ChannelsReport) and outcome.report.goal is not None
    return outcome.report.goal


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    torch.set_num_threads(1)
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    return Bench(tmp_path, {})


def test_masks_hold_through_training_and_are_cut_with_their_channels(bench: Bench) -> None:
    bench.tune()
    bench.prune(PruneUnstructured(amount=0.5, scope="local"))
    bench.tune(weight_decay=0.1)
    weights = bench.module().get_submodule("second").weight
    assert int((weights == 0).sum()) == weights.numel() // 2
    found = bench.prune(PruneChannels(ratio=0.5))
    assert found.after.parameters < found.before.parameters
    cut = bench.module().get_submodule("second").weight
    assert cut.shape == (8, 8, 3, 3)
    zeros = cut == 0
    assert 0 < int(zeros.sum()) < cut.numel()
    bench.tune()
    assert torch.equal(bench.module().get_submodule("second").weight == 0, zeros)


def test_two_parts_of_a_ratio_end_where_one_does(bench: Bench) -> None:
    entry = PruneChannels(ratio=0.5, steps=2, finetune=Finetune(epochs=1))
    widths = []
    for step in (1, 2):
        bench.prune(entry, (step, 2))
        widths.append([bench.module().get_submodule(n).weight.shape[0] for n in ("first", "second", "hidden")])
        bench.tune(epochs=1)
    once = Bench(bench.folder / "once", {})
    once.folder.mkdir()
    (once.folder / "model.py").write_text(MODEL, encoding="utf-8")
    once.prune(dataclasses.replace(entry, steps=1, finetune=None))
    assert widths[-1] == [once.module().get_submodule(n).weight.shape[0] for n in ("first", "second", "hidden")]
    assert widths[0][2] > widths[1][2], "the first part took less"


def test_an_automatic_ratio_spares_what_the_floor_does_not_allow(bench: Bench) -> None:
    bench.tune(epochs=6)
    before = {n: bench.module().get_submodule(n).weight.shape[0] for n in ("first", "second", "hidden")}
    entry = PruneChannels(ratio="auto", max_accuracy_drop=0.02)
    of = (output_of_task("classification"),)
    spec = SensitivitySpec(model_source(), (), sampling(DATA), studied(entry), "accuracy_top1", of, ())
    study = bench.run(sensitivity, spec)
    assert {row.name for row in files.read(study, SensitivityOutcome).layers} == set(before)
    bench.prune(entry, sensitivity=study)
    after = {n: bench.module().get_submodule(n).weight.shape[0] for n in before}
    assert sum(after.values()) < sum(before.values()), "something could be spared"
    # With no floor at all, everything that may go goes.
    free = Bench(bench.folder, {}, bench.last, 50)
    free.last = study.parent / "1"
    free.prune(dataclasses.replace(entry, max_accuracy_drop=0.999), sensitivity=study)
    loose = {n: free.module().get_submodule(n).weight.shape[0] for n in before}
    assert all(loose[n] <= after[n] for n in before) and sum(loose.values()) < sum(after.values())


def test_a_latency_goal_is_met_as_measured_in_the_runtime(bench: Bench) -> None:
    bench.args = {"wide": 8192}
    # Few steps: each candidate is exported and timed.
    found = bench.prune(
        PruneChannels(goal=Goal("latency_ms", removed=0.4), protect=("first", "second"), round_to=1024),
        trials=Trials("onnx", "NCHW", host="test"),
    )
    reached = goal_of(found)
    assert reached.metric == "latency_ms" and 0 < reached.reached <= reached.limit
    # How many channels that takes is the timer's affair.
    assert bench.module().get_submodule("hidden").weight.shape[0] < 8192
    assert bench.module()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_goal_on_an_emulated_device_is_met_by_what_is_counted_there(bench: Bench, emulator: object) -> None:
    bench.args = {"wide": 2048}
    # Few steps: each candidate is exported and counted.
    goal = Goal("estimated_latency_ms", removed=0.3, device="pixel4")
    found = bench.prune(
        PruneChannels(goal=goal, protect=("first", "second"), round_to=1024),
        trials=Trials("tflite", "NCHW", emulator="test", device=EmulatedPlace("emulator", "", 300.0, 2**32)),
        profile=PROFILE,
    )
    reached = goal_of(found)
    assert reached.metric == "estimated_latency_ms" and 0 < reached.reached <= reached.limit
    assert bench.module().get_submodule("hidden").weight.shape[0] == 1024


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (PruneChannels(ratio=0.5, protect=("*",)), "nothing can be pruned"),
        (PruneChannels(ratio=0.97, round_to=1), "would empty|empt"),
        (PruneChannels(goal=Goal("macs", limit=10)), "cannot be met"),
        (PruneChannels(ratio=0.5, protect=("frist",)), "did you mean 'first'"),
        (PruneUnstructured(amount=0.5, protect=("*",)), "protect"),
        (DropLayers(blocks=("first",), count=1), "cannot be dropped"),
        (DropLayers(count=1), "no "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_message(bench: Bench, entry: Pruning, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        bench.prune(entry)
