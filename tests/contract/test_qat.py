"""Training with fake quantization: the guard sees every fault, masks and freezing hold, a kill changes nothing."""

from __future__ import annotations

import copy
import json
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pocketforge.accuracy.post import About  # noqa: E402
from pocketforge.errors import ModelError, StageFailed  # noqa: E402
from pocketforge.model.weights import save_weights  # noqa: E402
from pocketforge.outcomes.qat import BatchNormNumbers  # noqa: E402
from pocketforge.pruning.unstructured import MaskConstraint  # noqa: E402
from pocketforge.recipe import Data, Preprocess  # noqa: E402
from pocketforge.recipe.compress import Distill, Finetune  # noqa: E402
from pocketforge.recipe.output import Output  # noqa: E402
from pocketforge.recipe.output_loss import OutputLoss  # noqa: E402
from pocketforge.recipe.quantize import Override, Quantize  # noqa: E402
from pocketforge.specs.data import data_spec  # noqa: E402
from pocketforge.specs.qat import QatSpec  # noqa: E402
from pocketforge.specs.reference import ReferenceSpec  # noqa: E402
from pocketforge.specs.sampling import Sampling  # noqa: E402
from pocketforge.specs.trained import ModelSource  # noqa: E402
from pocketforge.training.loop import fit  # noqa: E402
from pocketforge.training.options import FitOptions  # noqa: E402
from pocketforge.training.role_losses import RoleLosses  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # executorch's imports
    from pocketforge.quantization import graph_modes, pt2e
    from pocketforge.quantization.fake_quantize import fake_quantizers
    from pocketforge.quantization.qat import Freezing, TrainingGraph
    from pocketforge.stages import qat as stage

EPS, MOMENTUM, P = 0.02, 0.3, 0.1
QAT = Quantize("qat_int8")
pytestmark = [pytest.mark.filterwarnings("ignore")]  # the toolchains deprecate parts of each other


class Net(nn.Module):
    """What QAT tools lose: an unusual eps and momentum, dropout, a zero in its weight, one behind a linear."""

    def __init__(self, hidden=16):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=EPS, momentum=MOMENTUM)
        self.wide = nn.Conv2d(8, 8, 3, padding=1)
        self.wide_norm = nn.BatchNorm2d(8, eps=EPS, momentum=MOMENTUM)
        self.drop = nn.Dropout(P)
        self.hidden = nn.Linear(128, hidden)
        self.hidden_norm = nn.BatchNorm1d(hidden, eps=EPS)
        self.classifier = nn.Linear(hidden, 10)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()
        x = self.drop(self.wide_norm(self.wide(x)).relu().flatten(1))
        return self.classifier(nn.functional.dropout(self.hidden_norm(self.hidden(x)).relu(), 0.25, self.training))


MODEL = "import sys\nsys.path.insert(0, {tests!r})\nfrom test_qat import Net\ndef build():\n    return Net()\n"


def digits(count, start=0):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    chosen = range(start, start + count)
    return [((bunch.images[i].astype(np.float32)[None] / 16,), int(bunch.target[i])) for i in chosen]


def inputs_of(samples):
    return (torch.from_numpy(np.stack([arrays[0] for arrays, _ in samples])),)


BATCHES = [inputs_of(digits(50)), inputs_of(digits(50, 50))]


@pytest.fixture(scope="module")
def net():
    """Trained for a moment; small running variances, so that a lost eps shows."""
    torch.manual_seed(0)
    module = Net()
    fit(module, digits(600), Finetune(epochs=16, lr=5e-3))
    with torch.no_grad():
        module.norm.weight[3] = 0.0
    return module


@pytest.fixture(scope="module")
def graph(net):
    return TrainingGraph(net, BATCHES, QAT)


@pytest.fixture(scope="module")
def trained(net):
    """QAT of two epochs with masks; what the tests below look at, before and after it was converted."""
    masks = {"wide.weight": torch.rand(net.wide.weight.shape, generator=torch.Generator().manual_seed(1)) > 0.5}
    module = copy.deepcopy(net)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    training = TrainingGraph(module, BATCHES, replace(QAT, freeze_batch_norm=0.5, freeze_observers=0.5))
    constraint = MaskConstraint(training.graph, {k: v.to(torch.uint8) for k, v in masks.items()})
    seen = []

    def emit(fraction, message):
        if message == "epoch 2 of 2":
            state = {k: v.clone() for k, v in training.graph.state_dict().items()}
            seen.append({k: v for k, v in state.items() if "running" in k or k.endswith(("scale", "min_val"))})

    history = fit(
        training.graph, digits(300), Finetune(epochs=2, lr=1e-3), FitOptions(constraint=Freezing(training, constraint),
        check=training.check, emit=emit),
    )  # fmt: skip
    weights = {name: value.detach().clone() for name, value in training.graph.named_parameters()}
    with torch.no_grad():
        simulated = training.graph(*BATCHES[1])
    graphs, sqnr = training.convert()
    return {"module": module, "before": before, "masks": masks, "seen": seen, "history": history, "weights": weights,
            "simulated": simulated, "graphs": graphs, "sqnr": sqnr, "training": training}  # fmt: skip


def test_the_guard_knows_the_model_s_own_numbers(graph):
    report = graph.guard.report()
    assert {each.eps for each in report.batch_norm.values()} == {EPS}
    assert report.batch_norm["norm"] == BatchNormNumbers(EPS, MOMENTUM)
    assert sorted(report.dropout.values()) == [P, 0.25]
    assert graph.folded_before == ["hidden"]
    # As trained: behind every switch, and what scales the weights of a fused convolution too.
    for mode in (True, False, True):
        graph.graph.train(mode)
        graph.check(None)
        assert {(b.eps, b.momentum, b.training) for b in graph_modes.batch_norms(graph.graph)} == {
            (EPS, MOMENTUM, mode)
        }
        assert {b.scaled_with_eps for b in graph_modes.batch_norms(graph.graph)} == {EPS}


def upstream(name):
    def break_it(graph, module):
        import torchao.quantization.pt2e as tq

        for mode in ("eval", "train") if name == "train" else ("train", "eval"):
            getattr(tq, f"move_exported_model_to_{mode}")(graph)

    return break_it


def literal(kind, position, value):
    def break_it(graph, module):
        node = next(n for n in graph.graph.nodes if kind in str(n.target))
        node.args = (*node.args[:position], value, *node.args[position + 1 :])

    return break_it


def replaced(graph, module):
    graph.conv.weight = nn.Parameter(graph.conv.weight.detach().clone())


def moved(graph, module):
    graph.conv.weight.data = graph.conv.weight.detach().clone()


def shared(graph, module):
    graph.conv.weight.data = module.conv.weight.data


def gone(graph, module):
    del graph.classifier.bias


def new(graph, module):
    graph.extra = nn.Parameter(torch.zeros(1))


FAULTS = [
    (upstream("train"), True, "p was 0.1, is 0.5"),
    (upstream("train"), True, f"batch norm norm: eps was {EPS}, is 1e-05"),
    (upstream("train"), True, f"batch norm wide_norm: momentum was {MOMENTUM}, is 0.1"),
    (literal("dropout", 1, 0.7), True, "p was 0.1, is 0.7"),
    (literal("dropout", 2, True), False, "is in train form, wanted eval"),
    (literal("batch_norm", 5, False), True, "batch norm norm: is in eval form, wanted train"),
    (literal("batch_norm", 6, 0.1), True, f"batch norm norm: momentum was {MOMENTUM}, is 0.1"),
    (literal("batch_norm", 7, 1e-5), True, f"batch norm norm: eps was {EPS}, is 1e-05"),
    (replaced, True, "parameter conv.weight: is another object"),
    (moved, True, "parameter conv.weight: its values are in another place"),
    (shared, True, "conv.weight: shares its values with conv.weight of the float model"),
    (gone, True, "parameter classifier.bias: is gone"),
    (new, True, "parameter extra: is new"),
]


@pytest.mark.parametrize(("fault", "mode", "words"), FAULTS, ids=[words for _, _, words in FAULTS])
def test_the_guard_names_what_was_broken(net, graph, fault, mode, words):
    from pocketforge.quantization.qat_guard import Guard

    graph.train(mode)
    broken = copy.deepcopy(graph.graph)
    guard = Guard(broken, net)
    guard.dropouts, guard.batch_norms = graph.guard.dropouts, graph.guard.batch_norms
    guard.check(broken, "before", dropout=mode, batch_norm=mode)
    fault(broken, net)
    with pytest.raises(StageFailed, match="is not the model any more, after a fault") as caught:
        guard.check(broken, "after a fault", dropout=mode, batch_norm=mode)
    assert words in str(caught.value)


def test_the_guard_misses_no_parameter_in_the_optimizer(graph):
    graph.train(True)
    parameters = dict(graph.graph.named_parameters())
    graph.check(torch.optim.SGD(parameters.values(), 0.1))
    with pytest.raises(StageFailed, match=r"parameter wide\.weight: the optimizer does not train it"):
        graph.check(torch.optim.SGD([p for n, p in parameters.items() if n != "wide.weight"], 0.1))


def test_a_fault_in_training_stops_the_training():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(P)).eval()
    training = TrainingGraph(module, BATCHES, QAT)

    def emit(fraction, message):
        for node in training.graph.graph.nodes:
            if "dropout" in str(node.target):
                node.args = (node.args[0], 0.5, *node.args[2:])

    with pytest.raises(StageFailed, match=r"p was 0\.1, is 0\.5"):
        fit(training.graph, digits(64), Finetune(epochs=2), FitOptions(check=training.check, emit=emit))


def test_the_file_computes_what_was_trained(trained):
    """Unusual eps and a batch norm weight of 0 included; and the float model is what it was."""
    assert trained["sqnr"] > 30
    for converted in trained["graphs"]:
        with torch.no_grad():
            found = converted(*BATCHES[1])
        assert float((found.argmax(1) == trained["simulated"].argmax(1)).float().mean()) >= 0.99
        left = {node.target.__name__ for node in converted.graph.nodes if node.op == "call_function"}
        assert not [name for name in left if name.startswith(("batch_norm", "mul", "div", "sqrt"))]
    layers, _ = pt2e.describe(trained["graphs"][1])
    assert [layer.scheme for layer in layers] == ["static_int8"] * 4
    for name, value in trained["module"].state_dict().items():
        assert torch.equal(value, trained["before"][name]), name
    assert trained["history"][-1].train_accuracy > 0.7


def test_masks_hold_through_training_and_in_the_int8_weights(trained):
    kept = trained["masks"]["wide.weight"]
    assert not trained["weights"]["wide.weight"][~kept].any() and trained["weights"]["wide.weight"][kept].all()
    folded = [v for v in trained["graphs"][0].state_dict().values() if v.dtype == torch.int8 and v.shape == kept.shape]
    assert len(folded) == 1 and not folded[0][~kept].any()
    assert not torch.equal(trained["weights"]["wide.weight"][kept], trained["before"]["wide.weight"][kept])


def test_statistics_and_ranges_stay_once_frozen(trained):
    seen = trained["seen"]
    assert len(seen) > 2
    # Frozen after half of the updates, which is where epoch 2 begins. Its first step is the first of them.
    for name, value in seen[0].items():
        assert torch.equal(value, seen[-1][name]), name
    assert not torch.equal(seen[0]["norm.running_mean"], trained["before"]["norm.running_mean"])
    assert trained["training"].batch_norm_frozen and trained["training"].ranges_frozen


def test_ranges_are_of_the_forms_without_dropout():
    """Dropout scales up what it keeps: ranges that were measured in training would be twice too wide."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)).eval()
    training = TrainingGraph(module, BATCHES, replace(QAT, freeze_observers=1.0))

    def widths():
        return [float(f.scale) for f in fake_quantizers(training.graph) if f.scale.numel() == 1]

    start = widths()
    fit(training.graph, digits(320), Finetune(epochs=3, lr=1e-6), FitOptions(constraint=Freezing(training, None)))
    assert np.allclose(start, widths(), rtol=0.2)


class Heads(nn.Module):
    """A class and a size, by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.kind, self.size = nn.Linear(16, 10), nn.Linear(16, 1)

    def forward(self, x):
        y = self.body(x)
        return {"kind": self.kind(y), "size": self.size(y)}


def test_outputs_with_roles_are_trained_each_by_its_loss_and_all_are_compared():
    judged = (Output("logits", "kind"), Output("regression", "size", loss=OutputLoss("l1")))
    rows = [(x, {"label": np.asarray(y), "value": np.float32(x[0].mean())}) for x, y in digits(96)]
    training = TrainingGraph(Heads().eval(), BATCHES, QAT)
    roles = RoleLosses(("kind", "size"), judged, About())
    settings = Finetune(epochs=3, lr=3e-3, batch_size=32)
    history = fit(training.graph, rows, settings, FitOptions(roles=roles, constraint=Freezing(training, None)))
    first, last = (epoch.output_losses or {} for epoch in (history[0], history[-1]))
    assert all(last[name] < first[name] for name in ("kind", "size"))
    graphs, sqnr_db = training.convert()
    with torch.no_grad():
        inputs = BATCHES[0]
        folded, unfolded = (roles.named(graph(*inputs)) for graph in (graphs[0], graphs[1]))
    assert sqnr_db > 25 and set(folded) == {"kind", "size"}
    assert training.ranges and all(each.low <= each.high and each.scale for each in training.ranges)
    assert training.ranges[0].tensor == "flatten (output of flatten)"
    for name, values in folded.items():
        torch.testing.assert_close(values, unfolded[name], atol=1e-3, rtol=1e-3)


def test_layers_that_stay_float_keep_no_training_form(net):
    training = TrainingGraph(net, BATCHES, replace(QAT, overrides=(Override("conv"), Override("classifier"))))
    assert sorted(training.folded_before) == ["conv", "hidden"]
    fit(
        training.graph,
        digits(128),
        Finetune(epochs=1),
        FitOptions(constraint=Freezing(training, None), check=training.check),
    )
    (folded, unfolded), sqnr = training.convert()
    layers, _ = pt2e.describe(unfolded)
    assert [layer.label for layer in layers if layer.scheme == "fp32"] == ["conv2d (conv)", "linear (classifier)"]
    assert len(layers) == 4
    left = {node.target.__name__ for node in folded.graph.nodes if node.op == "call_function"}
    assert not [name for name in left if name.startswith(("batch_norm", "mul", "div", "sqrt"))] and sqnr > 30


# --- what cannot be trained so ----------------------------------------------------------------------------------------


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer(x.flatten(1))
        return x * 2 if self.training else x


class FixedBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.reshape(50, 64))


class Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        if self.training and float(x.sum()) > 0:
            x = x + 1
        return self.layer(x.flatten(1))


@pytest.mark.parametrize(
    ("module", "quantize", "words"),
    [
        (Branching(), QAT, r"computes something else than the model does in eval mode \(SQNR -?\d"),
        (FixedBatch(), QAT, "in train mode, with a batch of any size, the model cannot be traced"),
        (Reading(), QAT, "in train mode, with a batch of any size, the model cannot be traced"),
        (Branching(), replace(QAT, overrides=(Override("nothing"),)), "no layer is named 'nothing'"),
    ],
)
def test_a_model_without_a_training_graph_is_refused_in_words(module, quantize, words):
    with pytest.raises(ModelError, match=words):
        TrainingGraph(module.eval(), BATCHES, quantize)


def test_small_batches_and_traced_graphs_are_refused():
    with pytest.raises(ModelError, match="needs 16 samples or more to train on, found 15"):
        TrainingGraph(Branching().eval(), [inputs_of(digits(15))], QAT)
    traced = torch.export.export(Branching().eval(), BATCHES[0]).module()
    with pytest.raises(ModelError, match="a traced graph is fixed in the mode"):
        TrainingGraph(traced, BATCHES, QAT)


# --- the stage, and a kill ----------------------------------------------------------------------------------------


class Folder:
    """A model's files, its data and its reference, once."""

    def __init__(self, root: Path, module: nn.Module) -> None:
        from pocketforge.stages import data, reference

        self.root = root
        (root / "model.py").write_text(MODEL.format(tests=str(Path(__file__).parent)))
        save_weights(module, root / "weights.safetensors")
        digits = Data("digits", eval_samples=1000, calibration_samples=100, preprocess=Preprocess(scale=16.0))
        self.samples = Sampling(data_spec(digits, 0, "classification"), 0, "classification")
        self.inputs = {"data_root": root, "weights": root / "weights.safetensors"}
        for name in ("data", "reference"):
            (root / name).mkdir()
        data.run(self.inputs, self.samples.data, root / "data", lambda *_: None)
        self.inputs["data"] = root / "data"
        traced = ReferenceSpec(ModelSource("model.py", {}, 0), (), (), "classification", "accuracy_top1")
        reference.run(self.inputs, traced, root / "reference", lambda *_: None)
        self.inputs["reference"] = root / "reference"

    def run(self, name, quantize, emit=lambda *_: None, **more):
        out = self.root / name
        out.mkdir(exist_ok=True)
        spec = QatSpec(ModelSource("model.py", {}, 0), self.samples, quantize.settled())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stage.run({**self.inputs, **more}, spec, out, emit)
        return out


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("qat"), net)


@pytest.fixture(scope="module")
def settings():
    distilled = Finetune(epochs=4, lr=1e-3, ema_decay=0.9, early_stop_epochs=3, shift=1, distill=Distill(alpha=0.5))
    return replace(QAT, finetune=distilled)


@pytest.fixture(scope="module")
def whole(folder, settings):
    return folder.run("whole", settings)


def test_the_stage_writes_what_exporters_read(folder, whole, settings):
    names = {"folded.pt2", "unfolded.pt2", "outputs_0.npy", "quantize.json", "qat.json"}
    assert {path.name for path in whole.iterdir()} == names
    report = json.loads((whole / "qat.json").read_text())
    assert report["teacher"]["definition"] == "the model before quantization"
    assert report["settings"]["distill"]["alpha"] == 0.5 and report["history"][0]["epoch"] == 1
    assert {"teacher_loss", "validation_loss"} <= set(report["history"][0])
    assert report["guard"]["batch_norm"]["norm"] == {"eps": EPS, "momentum": MOMENTUM}
    program = torch.export.load(whole / "folded.pt2")
    assert program.example_inputs[0][0].shape == (1, 1, 8, 8)
    outputs = np.load(whole / "outputs_0.npy")
    targets = np.load(folder.inputs["data"] / "eval_targets.npy")[: len(outputs)]
    assert len(outputs) == 200 and (outputs.argmax(1) == targets).mean() > 0.8


def test_kill_9_in_an_epoch_changes_no_byte(folder, whole, settings):
    """A real process, killed in mid-epoch by SIGKILL; then the stage goes on from what it left."""
    partial = folder.root / "partial"
    steps = []

    def emit(fraction, message):
        steps.append(message)
        # Batch norm is frozen by then, the ranges are not.
        if steps.count("epoch 3 of 4") == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            folder.run("killed", settings, emit, partial=partial)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not any((folder.root / "killed").iterdir())
    told = []
    out = folder.run("killed", settings, lambda _, message: told.append(message), partial=partial)
    assert "going on after epoch 2, where it was broken off" in told and "epoch 2 of 4" not in told
    for name in ("outputs_0.npy", "quantize.json", "qat.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("folded", "unfolded"):
        ours, theirs = (torch.export.load(path / f"{name}.pt2") for path in (out, whole))
        assert {k: v.detach().numpy().tobytes() for k, v in ours.state_dict.items()} == {
            k: v.detach().numpy().tobytes() for k, v in theirs.state_dict.items()
        }
        assert [str(n.args) for n in ours.graph.nodes] == [str(n.args) for n in theirs.graph.nodes]


def test_the_stage_refuses_a_traced_definition_and_too_little_data(folder):
    with pytest.raises(ModelError, match=r"model\.pt2 is a traced graph"):
        stage.run(folder.inputs, QatSpec(ModelSource("model.pt2", {}, 0), folder.samples, QAT), folder.root, print)
    few = data_spec(Data("digits", eval_fraction=0.94, calibration_samples=85), 0, "classification")
    spec = QatSpec(ModelSource("model.py", {}, 0), Sampling(few, 0, "classification"), QAT)
    with pytest.raises(ModelError, match="needs 16 samples or more to train on, the train split has 9"):
        stage.train(folder.inputs, spec, folder.root, lambda *_: None)


def test_no_settings_are_finetune_s_defaults():
    assert QAT.settings == Finetune()
    assert QAT.settled().finetune == Finetune()
