"""Codebooks on real trained layers: quantizers compared, centroids fine-tuned, and looked up in a shipped ONNX file."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pocketforge.data.dataset import open_recipe
from pocketforge.devices.base import RunRequest
from pocketforge.errors import ModelError, StageFailed
from pocketforge.metrics import parity
from pocketforge.quantization.codebook_files import Codebook, load_codebooks, save_codebooks
from pocketforge.quantization.quantizers import QUANTIZERS, kmeans, nearest, quantile, uniform
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.toml import load_recipe

pytest.importorskip("torchao")
pytestmark = pytest.mark.filterwarnings("ignore")  # the toolchains deprecate parts of each other

from pocketforge.model.load import build_model, trace  # noqa: E402
from pocketforge.model.weights import load_weights  # noqa: E402
from pocketforge.pruning.subject import gather  # noqa: E402
from pocketforge.quantization import codebook  # noqa: E402
from pocketforge.quantization.fold import deep_copy, fold_batch_norm  # noqa: E402
from pocketforge.training.options import FitOptions  # noqa: E402

MODELS = Path(__file__).parents[2] / "models"
BITS = (2, 3, 4, 6, 8)


@pytest.fixture(scope="module")
def digits() -> Any:
    """The shipped, trained digits CNN: recipe, traced program, folded graph, its weights."""

    recipe = load_recipe(MODELS / "digits_cnn/release.toml")
    data = open_recipe(recipe)
    module = build_model("model.py", {}, recipe.resolve, seed=0)
    load_weights(module, recipe.resolve("weights.safetensors"))
    program = trace(module, (torch.zeros(1, 1, 32, 32),))
    graph = fold_batch_norm(program)
    return SimpleNamespace(
        module=module, program=program, graph=graph, weights=codebook.float_weights(graph), eval=gather(data.eval),
        train=[data.train[index] for index in range(len(data.train))],
    )  # fmt: skip


def mse(quantized: Any, weight: np.ndarray) -> float:
    return float(((quantized.values.astype(np.float64) - weight) ** 2).mean())


def top1(graph: Any, digits: Any) -> float:
    batched: Any = codebook.batched(graph)
    with torch.no_grad():
        right = sum(int((batched(*inputs).argmax(1) == targets).sum()) for inputs, targets in digits.eval)
    return right / sum(len(targets) for _, targets in digits.eval)


# Batch norm


def test_folding_keeps_what_the_graph_computes_and_the_program_as_it_was(digits):
    assert not [n for n in digits.graph.graph.nodes if "batch_norm" in str(n.target)]
    assert "stem.1.running_mean" not in digits.graph.state_dict()
    assert set(digits.weights) == {n for n, p in digits.module.named_parameters() if p.dim() > 1}
    for name, value in digits.module.state_dict().items():
        assert torch.equal(digits.program.state_dict[name], value)
    with torch.no_grad():
        for inputs, _ in digits.eval[:2]:
            wanted = digits.module(*inputs)
            assert torch.allclose(codebook.batched(digits.graph)(*inputs), wanted, atol=1e-4)


# Quantizers


@pytest.mark.parametrize("bits", BITS)
def test_k_means_has_the_least_error_of_the_quantizers_with_one_table(digits, bits):
    for name, weight in digits.weights.items():
        error = {kind: mse(quantize(weight, 2**bits), weight) for kind, quantize in QUANTIZERS.items()}
        assert error["k-means"] <= min(error["uniform"], error["quantile"]) * (1 + 1e-6), name
    total = {
        kind: sum(mse(quantize(weight, 2**bits), weight) * weight.size for weight in digits.weights.values())
        for kind, quantize in QUANTIZERS.items()
    }
    # A margin, not a tie: the cells of at least one layer are better placed.
    assert total["k-means"] < 0.95 * min(total["uniform"], total["quantile"])


@pytest.mark.parametrize("entries", [4, 16, 64])
def test_k_means_is_as_good_as_scikit_learns(digits, entries):
    from sklearn.cluster import KMeans

    for name in ("residual.conv.0.weight", "down1.conv.3.weight", "classifier.weight"):
        weight = digits.weights[name]
        reference = KMeans(entries, n_init=3, random_state=0).fit(weight.reshape(-1, 1)).inertia_ / weight.size
        assert mse(kmeans(weight, entries), weight) < 1.1 * reference, name


def test_256_entries_are_nearly_lossless(digits):
    books = codebook.cluster(digits.graph, 256)
    assert len(books) == len(digits.weights) - 1  # the stem has 288 values: a table of 256 would not make it smaller
    graph = codebook.with_codebooks(digits.graph, books)
    with torch.no_grad():
        outputs = [
            torch.cat([codebook.batched(g)(*inputs) for inputs, _ in digits.eval]).numpy()
            for g in (digits.graph, graph)
        ]
    assert parity(outputs[1], outputs[0]).sqnr_db > 35
    assert abs(top1(graph, digits) - top1(digits.graph, digits)) < 0.005


def test_the_levels_are_what_they_are_called(digits):
    weight = digits.weights["down2.conv.0.weight"]
    one = uniform(weight, 16)
    assert len(np.unique(one.table)) == 15 and 0 in one.table and one.stored_floats == 1
    assert np.abs(one.values - weight).max() <= one.table[0, -1] / 7 / 2 * 1.0001
    each = uniform(weight, 16, per_channel=True)
    assert each.stored_floats == len(weight) and mse(each, weight) < mse(one, weight)
    assert np.abs(each.values).max(axis=(1, 2, 3)) == pytest.approx(np.abs(weight).max(axis=(1, 2, 3)))
    counts = np.bincount(quantile(weight, 16).indices.reshape(-1))
    assert len(counts) == 16 and np.ptp(counts) <= 1  # equal population
    found = kmeans(weight, 16)
    # Lloyd's two conditions: each value has the nearest level, each level is its values' mean.
    flat = weight.reshape(-1)
    assert np.array_equal(found.indices.reshape(-1), nearest(flat, found.table[0]))
    means = [flat[found.indices.reshape(-1) == index].mean() for index in range(16)]
    assert found.table[0] == pytest.approx(np.array(means), rel=1e-3, abs=1e-5)


def test_k_means_is_the_same_every_time_and_takes_any_shape(digits):
    weight = digits.weights["inverted.conv.6.weight"]
    first, again = kmeans(weight, 32), kmeans(weight.copy(), 32)
    assert np.array_equal(first.table, again.table) and np.array_equal(first.indices, again.indices)
    flat = kmeans(weight.reshape(-1)[::-1], 32)
    assert np.array_equal(flat.table, first.table)


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("entries", [4, 16, 256])
def test_few_values_and_constants_are_kept_by_all(quantize, entries):
    constant = np.full((3, 5), 0.25, np.float32)
    assert quantize(constant, entries).values == pytest.approx(constant)
    zeros = np.zeros((3, 5), np.float32)
    assert np.array_equal(quantize(zeros, entries).values, zeros)


@pytest.mark.parametrize(("distinct", "entries"), [(1, 2), (1, 256), (3, 4), (4, 4), (7, 256), (256, 256)])
def test_fewer_values_than_entries_are_kept_exactly(distinct, entries):
    random = np.random.default_rng(0)
    weight = random.normal(size=distinct).astype(np.float32)[random.integers(0, distinct, (40, 30))]
    found = kmeans(weight, entries)
    assert np.array_equal(found.values, weight)
    assert found.table.size == len(np.unique(weight))


def test_outliers_do_not_leave_levels_without_values():
    random = np.random.default_rng(0)
    weight = np.append(random.normal(size=5000), [1000.0, -1000.0]).astype(np.float32)
    found = kmeans(weight, 16)
    assert (np.bincount(found.indices, minlength=16) > 0).all()
    assert mse(found, weight) < 0.05 < mse(uniform(weight, 16), weight)


def test_zeros_of_pruning_stay_zero(digits):
    weight = digits.weights["down2.conv.0.weight"].copy()
    weight[np.abs(weight) < np.quantile(np.abs(weight), 0.7)] = 0
    for entries in (4, 16, 256):
        values = kmeans(weight, entries).values
        assert np.array_equal(values == 0, weight == 0)


# Clustering a model


def graph_of(module: Any, *shape: int) -> Any:
    return fold_batch_norm(trace(module.eval(), (torch.zeros(*shape),)))


def test_what_cannot_be_clustered_is_said():
    broken = torch.nn.Sequential(torch.nn.Linear(64, 64))
    with torch.no_grad():
        broken[0].weight[0, 0] = math.nan
    with pytest.raises(StageFailed, match=r"the weight 0\.weight holds NaN or infinity"):
        codebook.cluster(graph_of(broken, 1, 64), 16)
    with pytest.raises(StageFailed, match="no convolution, linear layer or embedding"):
        codebook.cluster(graph_of(torch.nn.Softmax(1), 1, 64), 16)
    with pytest.raises(StageFailed, match="a codebook of 256 entries is larger than each of the model's 1 weights"):
        codebook.cluster(graph_of(torch.nn.Linear(8, 8), 1, 8), 256)
    for entries in (1, 257):
        with pytest.raises(ValueError, match="entries must be 2 to 256"):
            codebook.cluster(graph_of(torch.nn.Linear(64, 64), 1, 64), entries)


def test_a_constant_weight_is_a_codebook_of_one():
    module = torch.nn.Linear(64, 64)
    torch.nn.init.constant_(module.weight, 0.5)
    books = codebook.cluster(graph_of(module, 1, 64), 16)
    assert books["weight"].centroids.tolist() == [0.5] and books["weight"].bits == 1


def test_the_description_adds_up(digits):
    books = codebook.cluster(digits.graph, 256)
    rows = {row.name: row for row in codebook.describe(digits.graph, books)}
    assert list(rows) == list(digits.weights)
    assert rows["stem.0.weight"].entries == 0 and rows["stem.0.weight"].mse == 0
    for name, book in books.items():
        row = rows[name]
        assert (row.entries, row.bits, row.packed_bytes) == (256, 8, book.indices.size + 1024)
        assert row.mse == pytest.approx(float(((book.values() - digits.weights[name]) ** 2).mean()), rel=1e-3)
        assert 6 < row.entropy_bits <= 8 and row.sqnr_db > 35


# Fine-tuning


FINETUNE = Finetune(epochs=2, lr=3e-3, batch_size=64)


@pytest.fixture(scope="module")
def finetuned(digits):
    books = codebook.cluster(digits.graph, 4)
    before = copy.deepcopy(digits.graph.state_dict())
    found = codebook.finetune_centroids(digits.graph, books, digits.train, FINETUNE, FitOptions(seed=0))
    assert all(torch.equal(value, before[name]) for name, value in digits.graph.state_dict().items())
    return books, found


def test_fine_tuning_the_centroids_brings_back_what_2_bits_lost(digits, finetuned):
    books, (graph, trained, history) = finetuned
    lost = top1(codebook.with_codebooks(digits.graph, books), digits)
    assert lost < 0.7 < 0.9 < top1(graph, digits)
    assert len(history) == 2 and history[-1].loss < history[0].loss
    for name, book in books.items():
        assert np.array_equal(trained[name].indices, book.indices)
        assert not np.array_equal(trained[name].centroids, book.centroids)
        assert np.array_equal(graph.get_parameter(name).detach().numpy(), trained[name].values())
    assert not torch.equal(graph.get_parameter("classifier.bias"), digits.graph.get_parameter("classifier.bias"))


def test_fine_tuning_is_the_same_every_time_and_goes_on_after_a_kill(digits, finetuned, tmp_path):
    books, _ = finetuned
    few = digits.train[:192]
    _, trained, history = codebook.finetune_centroids(digits.graph, books, few, FINETUNE, FitOptions(seed=0))

    class Killed(Exception):
        pass

    def kill(_fraction: float, message: str) -> None:
        if message.startswith("epoch 2"):
            raise Killed

    said: list[str] = []
    with pytest.raises(Killed):
        codebook.finetune_centroids(digits.graph, books, few, FINETUNE, FitOptions(seed=0, partial=tmp_path, emit=kill))
    _, again, history_again = codebook.finetune_centroids(
        digits.graph,
        books,
        few,
        FINETUNE,
        FitOptions(seed=0, partial=tmp_path, emit=lambda _, words: said.append(words)),
    )
    assert "going on after epoch 1" in said[0] and history_again == history
    for name, book in trained.items():
        assert np.array_equal(again[name].centroids, book.centroids)


def test_a_centroids_gradient_is_the_sum_over_its_weights(digits):
    books = codebook.cluster(digits.graph, 4)
    shared = codebook._Shared(digits.graph, books)
    inputs, targets = digits.eval[0]
    torch.nn.functional.cross_entropy(shared(*inputs), targets).backward()
    plain = codebook.with_codebooks(digits.graph, books)
    torch.nn.functional.cross_entropy(codebook.batched(plain)(*inputs), targets).backward()
    for number, (name, book) in enumerate(books.items()):
        gradient = plain.get_parameter(name).grad.numpy()
        sums = [gradient[book.indices == index].sum() for index in range(len(book.centroids))]
        assert shared.centroids[number].grad.numpy() == pytest.approx(np.array(sums), rel=1e-3, abs=1e-5)


def test_a_centroid_of_zero_stays_zero(digits):
    graph = deep_copy(digits.graph)
    with torch.no_grad():
        weight = graph.get_parameter("down2.conv.0.weight")
        weight[weight.abs() < weight.abs().quantile(0.7)] = 0
    books = codebook.cluster(graph, 4)
    settings = Finetune(epochs=1, lr=1e-3, batch_size=112)
    trained, _, _ = codebook.finetune_centroids(graph, books, digits.train[:224], settings, FitOptions(seed=0))
    assert torch.equal(
        trained.get_parameter("down2.conv.0.weight") == 0, graph.get_parameter("down2.conv.0.weight") == 0
    )


def test_a_rate_that_is_too_high_is_said(digits):
    books = codebook.cluster(digits.graph, 4)
    settings = Finetune(epochs=1, optimizer="sgd", batch_size=112)
    object.__setattr__(settings, "lr", 1e30)  # no recipe may ask for it: one that may would take long to diverge
    with pytest.raises(ModelError, match=r"diverged|NaN"):
        codebook.finetune_centroids(digits.graph, books, digits.train[:448], settings)


def test_a_model_that_takes_no_batch_is_said():
    class Random(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x) + torch.rand(64)

    graph = graph_of(Random(64, 64), 1, 64)
    sample = ((np.zeros(64, np.float32),), 0)
    with pytest.raises(ModelError, match="cannot be computed for several samples at once") as caught:
        codebook.finetune_centroids(graph, codebook.cluster(graph, 4), [sample] * 4, Finetune(epochs=1))
    assert "no random numbers" in caught.value.hint


# ONNX


@pytest.fixture(scope="module")
def onnx() -> Any:
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


def exported(graph: Any, example: Any, opset: int = 21) -> Any:
    return torch.onnx.export(graph, (example,), dynamo=True, opset_version=opset, verbose=False).model_proto


def answers(path: Path, samples: np.ndarray, folder: Path) -> np.ndarray:
    """What the file says of each sample, in a new process that loads onnxruntime alone."""
    from pocketforge.devices.host import run

    folder.mkdir()
    np.save(folder / "input_0.npy", samples)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    done = run(RunRequest("onnx", path, digest, (folder / "input_0.npy",), folder))
    assert not {"torch", "onnx"} & set(done.modules)
    return np.load(folder / "outputs_0.npy")


@pytest.mark.parametrize(("entries", "share", "kind"), [(16, 0.25, "uint4"), (256, 0.4, "uint8")])
def test_an_onnx_file_with_codebooks_is_small_and_computes_the_same(digits, onnx, tmp_path, entries, share, kind):
    from pocketforge.runtimes.onnx import export_ort
    from pocketforge.runtimes.onnx_codebook import apply_codebooks

    books = codebook.cluster(digits.graph, entries)
    graph = codebook.with_codebooks(digits.graph, books)
    rest = {name: value.numpy() for name, value in graph.state_dict().items() if name not in books}
    sizes = save_codebooks(books, rest, tmp_path)
    assert sizes.codebook_bytes < share * sizes.dense_bytes
    model = exported(graph, torch.zeros(1, 1, 32, 32))
    plain = len(model.SerializeToString())
    assert apply_codebooks(model, tmp_path) == {"weights": len(books), "uint4": 0, "uint8": 0, kind: len(books)}
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    assert path.stat().st_size < share * plain
    samples = np.concatenate([inputs[0].numpy() for inputs, _ in digits.eval[:4]])
    with torch.no_grad():
        wanted = torch.cat([codebook.batched(graph)(*inputs) for inputs, _ in digits.eval[:4]]).numpy()
    found = parity(answers(path, samples, tmp_path / "onnx"), wanted)
    assert found.sqnr_db > 60 and found.argmax_agreement == 1
    # .ort: the same answers; its weights are float again, as the docs say.
    export_ort(path, tmp_path)
    found = parity(answers(tmp_path / "model.ort", samples, tmp_path / "ort"), wanted)
    assert found.sqnr_db > 60 and found.argmax_agreement == 1
    assert (tmp_path / "model.ort").stat().st_size > 0.9 * plain


class Products(torch.nn.Module):
    """What the exporter writes in other ways: MatMuls with transposed weights, equal weights, a shared weight,
    rows that are always the same.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.positions = torch.nn.Embedding(64, 48), torch.nn.Embedding(12, 48)
        self.register_buffer("places", torch.arange(12)[None])
        self.first, self.second = torch.nn.Linear(48, 48), torch.nn.Linear(48, 48, bias=False)
        self.tied = torch.nn.Linear(48, 48)
        self.tied.weight = self.second.weight
        self.copy = torch.nn.Linear(48, 48)
        self.copy.weight.data = self.first.weight.data.clone()
        self.conv, self.back = torch.nn.Conv1d(12, 24, 3, padding=1), torch.nn.ConvTranspose1d(24, 12, 3, padding=1)
        self.head = torch.nn.Linear(48, 40)

    def forward(self, x: Any) -> Any:
        x = self.embedding(x) + self.positions(self.places)
        x = self.tied(self.second(self.first(x).relu()).relu()) + self.copy(x * 2)
        return self.head(self.back(self.conv(x).relu()).mean(1))


@pytest.fixture(scope="module")
def products() -> tuple[Any, dict[str, Codebook]]:
    graph = fold_batch_norm(trace(Products().eval(), (TOKENS,)))
    books = codebook.cluster(graph, 8)
    return codebook.with_codebooks(graph, books), books


TOKENS = torch.zeros(1, 12, dtype=torch.int64)


@pytest.fixture(scope="module")
def products_in_onnx(products) -> Callable[[int], Any]:
    """Opset → the graph as the exporter writes it, a copy each time."""
    once = functools.cache(lambda opset: exported(products[0], TOKENS, opset))
    return lambda opset: copy.deepcopy(once(opset))


@pytest.mark.parametrize(("opset", "kind"), [(21, "uint4"), (20, "uint8")])
def test_weights_are_found_however_the_exporter_writes_them(onnx, products, products_in_onnx, tmp_path, opset, kind):
    import onnxruntime

    from pocketforge.runtimes.onnx_codebook import apply_codebooks

    graph, books = products
    assert len(books) == 7  # each of the nine but the shared one once
    save_codebooks(books, {}, tmp_path)
    assert set(load_codebooks(tmp_path)) == set(books)
    model = products_in_onnx(opset)
    found = apply_codebooks(model, tmp_path)
    assert found[kind] == found["weights"] >= 6  # equal weights may be one constant
    onnx.checker.check_model(model, full_check=True)
    left = [tuple(i.dims) for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT and len(i.dims) > 1]
    assert left == [(1, 12, 48)]  # the positions' rows, which the exporter looked up
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(0).integers(0, 64, (1, 12))
    with torch.no_grad():
        wanted = graph(torch.from_numpy(tokens)).numpy()
    answer = session.run(None, {session.get_inputs()[0].name: tokens})[0]
    assert parity(answer, wanted).sqnr_db > 60


def test_a_codebook_whose_weight_is_not_in_the_model_is_refused(products, products_in_onnx, tmp_path):
    from pocketforge.runtimes.onnx_codebook import apply_codebooks

    _, books = products
    model = products_in_onnx(21)
    moved = Codebook(books["head.weight"].indices, books["head.weight"].centroids * np.float32(1.001))
    save_codebooks({**books, "head.weight": moved}, {}, tmp_path)
    with pytest.raises(StageFailed) as caught:
        apply_codebooks(model, tmp_path)
    assert caught.value.message == "the exporter wrote no constant with the clustered values of head.weight"
    assert caught.value.hint
