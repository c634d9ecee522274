"""Calibration: the micro-models are what they say, tables are read strictly, and what is held out stays out."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import math
import random
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketforge.device_calibration import (
    baselines,
    calibrate,
    datasets,
    errors,
    judging,
    micro_models,
    published,
    sampling,
    suite,
    tables,
)
from pocketforge.device_calibration.counted import CountStore, run_key
from pocketforge.device_calibration.operators import Counted, operators
from pocketforge.device_calibration.tflite_graph import Graph
from pocketforge.errors import RecipeError, StoreError
from pocketforge.estimation import calibration_file
from pocketforge.estimation.traffic import Operator

BLOCKS = [
    "firstconv_16_3_16_2_3",
    "conv_8_16_16_1_1_hard_swish_5_nose",
    "conv_8_16_24_4_2_hard_swish_3_se",
    "conv_9_16_16_2_1_hard_swish_3_se",
    "transds_7_24_40_2_4",
    "transds_4_16_16_1_6",
    "transffn_4_32_3_hard_swish_ln",
    "transattn_4_40_hard_swish_3_ln",
    "mbpool_2_16_64_6_hard_swish",
]
NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def runs(data: bytes, x: np.ndarray) -> np.ndarray:
    found = Interpreter(model_content=data, num_threads=1)
    found.allocate_tensors()
    found.set_tensor(found.get_input_details()[0]["index"], x)
    found.invoke()
    return found.get_tensor(found.get_output_details()[0]["index"])


def sample_input(data: bytes) -> np.ndarray:
    details = Interpreter(model_content=data).get_input_details()[0]
    x = np.random.default_rng(3).standard_normal(details["shape"]).astype(np.float32)
    if details["dtype"] == np.int8:
        scale, zero = details["quantization"]
        return np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
    return x


def reference(data: bytes, x: np.ndarray) -> np.ndarray:
    """The graph in torch and NumPy, from the file's own tensors; int8 tensors are rounded where the graph rounds."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
    graph = model.subgraphs[0]
    kinds = {0: np.float32, 2: np.int32, 9: np.int8}
    values: dict[int, torch.Tensor] = {}

    def scale_of(tensor):
        given = tensor.quantization
        if given is None or given.scale is None or not len(given.scale):
            return None
        shape = [1] * len(tensor.shape)
        if len(given.scale) > 1:
            shape[given.quantizedDimension] = -1
        scale = torch.tensor(np.array(given.scale, np.float64)).reshape(shape)
        return scale, torch.tensor(np.array(given.zeroPoint, np.float64)).reshape(shape)

    for index, tensor in enumerate(graph.tensors):
        held = model.buffers[tensor.buffer].data
        if held is not None and len(held):
            array = np.frombuffer(bytes(held), kinds[tensor.type]).reshape(tensor.shape).astype(np.float64)
            value = torch.tensor(array)
            if (known := scale_of(tensor)) is not None:
                value = (value - known[1]) * known[0]
            values[index] = value
    first = graph.tensors[graph.inputs[0]]
    value = torch.tensor(x.astype(np.float64))
    if (known := scale_of(first)) is not None:
        value = (value - known[1]) * known[0]
    values[int(graph.inputs[0])] = value
    for op in graph.operators:
        kind = NAMES[model.operatorCodes[op.opcodeIndex].builtinCode]
        results = run_one(kind, op.builtinOptions, [values[int(i)] for i in op.inputs])
        for index, result in zip(op.outputs, results, strict=True):
            tensor = graph.tensors[int(index)]
            result = result.reshape([int(n) for n in tensor.shape])
            if (known := scale_of(tensor)) is not None:
                result = (torch.clamp(torch.round(result / known[0] + known[1]), -128, 127) - known[1]) * known[0]
            values[int(index)] = result
    last = graph.tensors[graph.outputs[0]]
    value = values[int(graph.outputs[0])]
    if (known := scale_of(last)) is not None:
        value = value / known[0] + known[1]
    return value.numpy()


def run_one(kind, options, inputs):
    x = inputs[0]
    fused = getattr(options, "fusedActivationFunction", 0)

    def activated(y):
        return {0: y, 1: torch.relu(y), 3: torch.clamp(y, 0, 6)}[fused]

    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        weights = inputs[1]
        groups = x.shape[3] if kind == "DEPTHWISE_CONV_2D" else 1
        order = (3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        weights = weights.permute(*order)
        kernel, stride = weights.shape[2], options.strideH
        pads = [0, 0, 0, 0]
        if options.padding == schema.Padding.SAME:
            for i, n in enumerate((x.shape[2], x.shape[1])):
                total = max((math.ceil(n / stride) - 1) * stride + kernel - n, 0)
                pads[2 * i], pads[2 * i + 1] = total // 2, total - total // 2
        y = functional.conv2d(functional.pad(x.permute(0, 3, 1, 2), pads), weights, inputs[2], stride, groups=groups)
        return [activated(y.permute(0, 2, 3, 1))]
    if kind == "FULLY_CONNECTED":
        y = x @ inputs[1].T + (inputs[2] if len(inputs) > 2 else 0)
        return [activated(y if options.keepNumDims else y.reshape(-1, y.shape[-1]))]
    if kind == "ADD":
        return [activated(x + inputs[1])]
    if kind == "MEAN":
        return [x.mean(dim=[int(i) for i in inputs[1]])]
    if kind == "SPLIT_V":
        return list(torch.split(x, [int(n) for n in inputs[1]], dim=-1))
    if kind == "SPLIT":
        return list(torch.split(inputs[1], 1, dim=int(x)))
    if kind == "PACK":
        return [torch.stack(inputs)]
    if kind == "PAD":
        border = int(inputs[1][1][0])
        return [functional.pad(x, [0, 0, border, border, border, border])]
    simple = {
        "MUL": lambda: x * inputs[1],
        "SUB": lambda: x - inputs[1],
        "SQUARED_DIFFERENCE": lambda: (x - inputs[1]) ** 2,
        "RSQRT": lambda: torch.rsqrt(x),
        "HARD_SWISH": lambda: functional.hardswish(x),
        "SOFTMAX": lambda: torch.softmax(x, dim=-1),
        "RESHAPE": lambda: x,
        "TRANSPOSE": lambda: x.permute([int(i) for i in inputs[1]]),
        "BATCH_MATMUL": lambda: x @ (inputs[1].transpose(-1, -2) if options.adjY else inputs[1]),
        "AVERAGE_POOL_2D": lambda: functional.avg_pool2d(x.permute(0, 3, 1, 2), options.filterHeight, options.strideH)
        .permute(0, 2, 3, 1),
    }  # fmt: skip
    return [simple[kind]()]


def every_operator(precision) -> bytes:
    """A graph that holds each operator that the builder can write in this precision."""
    graph = Graph("every", precision, 5)
    x = graph.conv2d(graph.input(1, 9, 9, 3), 16, 3, 2, activation="relu6")
    x = graph.depthwise(graph.pad(x, 1), 3, padding="valid", activation="relu")
    x = graph.hard_swish(graph.conv2d(x, 24, 1))
    pooled = graph.average_pool(x, 2, 2)
    half = graph.constant(np.full(1, 0.5, np.float32))
    gate = graph.multiply(pooled, graph.add(graph.mean(pooled, (1, 2), keep=True), half))
    parts = graph.split(graph.reshape(gate, 1, 4, 24), [8, 16])
    scores = graph.softmax(graph.batch_matmul(parts[0], parts[0], transpose_b=True))
    y = graph.batch_matmul(scores, parts[1])
    y = graph.subtract(y, graph.constant(graph.random(16)))
    y = graph.reshape(graph.transpose(y, 0, 2, 1), 1, 64)
    return graph.finish(graph.fully_connected(y, 10))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_published_block_runs_and_computes_what_its_definition_says(name):
    data = micro_models.block(name)
    x = sample_input(data)
    np.testing.assert_allclose(runs(data, x), reference(data, x), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_operator_agrees_with_a_reference(precision):
    data = every_operator(precision)
    x = sample_input(data)
    found, wanted = runs(data, x), reference(data, x)
    if precision == "fp32":
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        return
    # Roundings differ by one step here and there, and later layers add them up.
    assert found.std() > 5
    assert np.abs(found - wanted).max() <= 3


@pytest.mark.parametrize(
    ("kind", "cout", "kernel", "stride"),
    [("conv-bn-relu", 24, 1, 1), ("conv-bn-relu", 8, 3, 2), ("dwconv-bn-relu", 16, 5, 2), ("add", 16, 1, 1)],
)
def test_an_int8_operator_is_within_one_step_of_its_reference(kind, cout, kernel, stride):
    data = micro_models.operator(kind, 11, 16, cout, kernel, stride)
    x = sample_input(data)
    found, wanted = runs(data, x), reference(data, x)
    assert found.dtype == np.int8 and found.std() > 5
    assert np.abs(found - wanted).max() <= 1.01


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("build", "macs"), [(micro_models.mobilenet_v1, 568.7), (micro_models.mobilenet_v2, 300.8)])
def test_the_networks_have_the_published_multiplications(build, macs, precision):
    data = build(precision)
    assert sum(operator.macs for operator in operators(data)) / 1e6 == pytest.approx(macs, abs=0.1)
    small = build(precision, size=32)
    x = sample_input(small)
    found, wanted = runs(small, x), reference(small, x)
    assert found.shape == (1, 1001)
    if precision == "fp32":
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    else:
        assert np.abs(found - wanted).mean() < 1.5


def test_bytes_are_the_same_each_time_and_other_seeds_differ():
    name = BLOCKS[2]
    assert micro_models.block(name) == micro_models.block(name)
    assert micro_models.block(name, seed=1) != micro_models.block(name, seed=2)
    # Frozen: shipped counts are found by these hashes.
    digest = hashlib.sha256(micro_models.operator("conv-bn-relu", 56, 48, 24, 1, 1)).hexdigest()
    assert run_key(digest, "cortex-a76", "builtin") in CountStore.load(datasets.COUNTS)


def test_the_builtin_kernels_agree_as_well():
    data = micro_models.operator("dwconv-bn-relu", 11, 16, 16, 3, 1)
    plain = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    plain.allocate_tensors()
    x = sample_input(data)
    plain.set_tensor(plain.get_input_details()[0]["index"], x)
    plain.invoke()
    assert np.abs(plain.get_tensor(plain.get_output_details()[0]["index"]) - reference(data, x)).max() <= 1.01


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_7_96", "no block of family 'swin'; known: conv, "),
        ("conv_8_16_16", "'conv_8_16_16' is not a name of a conv block"),
        ("conv_8_16_16_1_1_hard_swish_5_maybe", "is not a name of a conv block"),
        ("transffn_x_4_4", "is not a name of a transffn block"),
    ],
)
def test_a_name_that_is_no_block_is_refused(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        micro_models.block(name)


def test_operators_carry_their_bytes_rows_and_macs():
    rows = operators(micro_models.block("conv_8_16_24_4_2_hard_swish_3_se"))
    assert [row.moved.kind for row in rows] == [
        "CONV_2D", "HARD_SWISH", "DEPTHWISE_CONV_2D", "HARD_SWISH", "MEAN", "CONV_2D", "CONV_2D", "ADD", "MUL", "MUL",
        "CONV_2D", "AVERAGE_POOL_2D", "CONV_2D", "ADD",
    ]  # fmt: skip
    first, depthwise = rows[0], rows[2]
    assert first == Counted(
        Operator(
            "CONV_2D", weight_bytes=4 * (16 * 64 + 64), input_bytes=4 * 64 * 16, output_bytes=4 * 64 * 64, rows=64
        ),
        macs=64 * 16 * 64,
    )
    # The padding is folded: its input counts, not the padded copy.
    assert depthwise.moved.input_bytes == 4 * 64 * 64 and depthwise.moved.rows == 0 and depthwise.macs == 16 * 64 * 9


def test_the_shipped_tables_are_read_whole():
    found = published.shipped()
    families = {m.family for m in found}
    assert families == {*sampling.SHARES, "mobilenet_v1", "mobilenet_v2"}
    assert {m.device for m in found if m.kind == "block"} == {"Pixel 4", "Pixel 6", "Mi 11"}
    assert sum(m.repeats for m in found if m.kind == "op") == 894
    assert sum(m.repeats for m in found if m.kind == "block") == 6058 + 2 * 6041
    repeated = next(m for m in found if m.name == "conv-bn-relu_56_48_24_1_1")
    assert repeated.repeats > 1 and repeated.latency_ms == pytest.approx(0.147, abs=0.002)
    assert all(m.source and m.core == m.core.lower() for m in found)


def test_rows_that_no_estimate_can_be_compared_with_say_why():
    models = {(m.core, m.threads): m.usable for m in published.read(published.DATA / "models.csv")}
    assert models["cortex-a75", 1] == ""
    assert models["cortex-a72", 4] == "4 threads: estimates are for one"
    single = dataclasses.replace(published.shipped()[0], core="cortex-a72 (armv7 build)", threads=1)
    assert "not one that a kernel can be chosen for" in single.usable


def test_every_fault_of_a_table_is_reported_at_once(tmp_path):
    path = tmp_path / "t.csv"
    rows = list(csv.reader(published.DATA.joinpath("models.csv").read_text().splitlines()))
    at = rows[0].index("latency_ms")
    for i, bad in enumerate(["fast", "-1", "nan", "0"], 1):
        rows[i][at] = bad
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)
    with pytest.raises(RecipeError) as caught:
        published.read(path)
    for line, bad in zip(range(2, 6), ["fast", "-1", "nan", "0"], strict=True):
        assert f"line {line}: latency_ms is '{bad}'" in str(caught.value)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(RecipeError, match="has the columns a, b: not a table of measurements"):
        published.read(path)
    with pytest.raises(RecipeError, match="cannot read"):
        published.read(tmp_path / "absent.csv")


@settings(max_examples=8)
@given(st.randoms(use_true_random=False))
def test_what_is_held_out_depends_on_the_points_alone(randoms: random.Random):
    chosen = chosen_points()
    mixed = list(chosen)
    randoms.shuffle(mixed)
    assert {m.name for m in sampling.split(mixed)[1]} == {m.name for m in sampling.split(chosen)[1]}
    assert sampling.split_hash(mixed).startswith("4f26ca8100a1724d"), "as before the first fit"


def chosen_points(cache=[]):  # noqa: B006
    if not cache:
        cache += sampling.sample(published.shipped())
    return cache


def test_the_split_keeps_pairs_together_and_each_family_on_both_sides():
    fitted, held = sampling.split(chosen_points())
    kept = {m.name for m in held}
    assert not kept & {m.name for m in fitted}
    assert all((a.name in kept) == (b.name in kept) for a, b in sampling.pairs(fitted + held))
    for name in kept:
        assert len({m.device for m in held if m.name == name}) == len(
            {m.device for m in chosen_points() if m.name == name}
        )
    for family in sampling.SHARES:
        members = [m for m in fitted + held if m.family == family]
        share = sum(m.name in kept for m in members) / len(members)
        assert family == "add" or 0.25 <= share <= 0.6, family
    assert len(held) >= 60


def test_pairs_are_a_block_and_what_pruning_makes_of_it():
    for slow, fast in sampling.pairs(chosen_points()):
        assert sampling.cell(slow) == sampling.cell(fast)
        assert slow.latency_ms >= 1.2 * fast.latency_ms


def test_stored_counts_come_back_and_equal_content_is_an_equal_file(tmp_path):
    store = CountStore(versions={"qemu": "7.2"})
    store.add("a", [(4096, 3, (1, 2)), (8192, 1, (3,))])
    store.add("b", [(4096, 5, (1, 2))])
    store.save(tmp_path / "one")
    again = CountStore.load(tmp_path / "one")
    again.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    run = again.run("a")
    assert run.instructions == 7 and [(b.pc, b.executions, b.words) for b in run.blocks] == [
        (4096, 3, (1, 2)), (8192, 1, (3,)),
    ]  # fmt: skip
    (tmp_path / "one").write_bytes(b"damaged")
    with pytest.raises(RecipeError, match="cannot read the stored counts"):
        CountStore.load(tmp_path / "one")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite") / "s"
    return folder, suite.write_suite(folder)


def test_the_suite_is_whole_and_never_overwritten(written):
    folder, made = written
    rows = list(csv.DictReader((folder / suite.MANIFEST).read_text().splitlines()))
    assert len({r["sha256"] for r in rows}) == len(made) == 36
    assert [r["file"] for r in rows] == [f"{m.name}.tflite" for m in made]
    for row in rows:
        assert hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    smallest = min(made, key=lambda m: len(m.data))
    assert runs(smallest.data, sample_input(smallest.data)).size
    with pytest.raises(StoreError, match="is there already"):
        suite.write_suite(folder)
    with pytest.raises(RecipeError, match="holds no measurement"):
        published.read(folder / suite.MANIFEST)


def test_a_filled_manifest_is_read_back_and_another_file_is_noticed(written, tmp_path):
    folder, _ = written
    filled = tmp_path / "filled.csv"
    filled.write_bytes((folder / suite.MANIFEST).read_bytes())
    fill(filled, 3)
    found = published.read(filled)
    assert [(m.kind, m.core, m.clock_ghz, m.threads) for m in found] == [("file", "cortex-a76", 2.0, 1)] * 3
    assert found[0].family == "conv" and found[0].precision == "fp32"
    assert datasets.model_file(found[0], folder)
    (tmp_path / f"{found[0].name}.tflite").write_bytes(b"other")
    with pytest.raises(RecipeError, match="is not the file that was measured"):
        datasets.model_file(found[0], tmp_path)
    with pytest.raises(RecipeError, match="which the manifest names"):
        datasets.model_file(found[1], tmp_path)


def fill(path, count):
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for row in rows[:count]:
        row.update(device="pixel4", core="Cortex-A76", GHz="2.0", latency_ms="1.5")
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_summaries_are_the_quantiles_of_relative_errors():
    found = errors.summarize("x", "y", [1.1, 0.9, 1.0, 1.4, 0.8])
    assert found.points == 5 and (found.median, found.worst) == pytest.approx((0.1, 0.4))
    assert found.p90 == pytest.approx(np.quantile([0.1, 0.1, 0, 0.4, 0.2], 0.9)) and found.bias == pytest.approx(0.0)
    with pytest.raises(ValueError, match="no points"):
        errors.summarize("x", "y", [])


@pytest.fixture(scope="module")
def samples():
    """A dozen cheap published points with their terms, from the shipped counts."""
    fitted, held = sampling.split(chosen_points())
    cheap = [m for m in fitted + held if m.latency_ms < 0.3 and m.family in ("conv-bn-relu", "dwconv-bn-relu")]
    return datasets.gather(cheap[:6] + cheap[-6:] + a_model(), CountStore.load(datasets.COUNTS), count=None)


def a_model():
    return [m for m in chosen_points() if m.core == "cortex-a72" and not m.usable]


def test_held_out_measurements_cannot_change_what_is_fitted(samples):
    groups = calibrate.grouped(samples)
    assert groups.fitted and groups.held_out
    before = calibrate.calibrate(samples).calibration.cores
    out = {id(s) for s in groups.held_out}
    spoiled = [
        dataclasses.replace(s, measurement=dataclasses.replace(s.measurement, latency_ms=99.0)) if id(s) in out else s
        for s in samples
    ]
    assert {c: f.parameters for c, f in calibrate.calibrate(spoiled).calibration.cores.items()} == {
        c: f.parameters for c, f in before.items()
    }


def test_a_device_that_is_left_out_is_predicted_from_the_others_alone(samples):
    """Its own measurements, changed, change nothing; with the only device left out there is nothing to say."""
    chosen = [m for m in chosen_points() if m.family == "conv" and m.device in ("Pixel 4", "Mi 11")]
    names = sorted({m.name for m in chosen}, key=lambda name: min(m.latency_ms for m in chosen if m.name == name))[:10]
    store = CountStore.load(datasets.COUNTS)
    two = datasets.gather([m for m in chosen if m.name in names], store, count=None)
    one = "Mi 11"
    spoiled = [
        dataclasses.replace(s, measurement=dataclasses.replace(s.measurement, latency_ms=s.measurement.latency_ms * 3))
        if s.measurement.device == one
        else s
        for s in two
    ]
    told = [
        next(x for x in judging.without_each_device(each, []).summaries if x.what.startswith(one))
        for each in (two, spoiled)
    ]
    # Three times as slow as it was: the same prediction is now a third.
    assert told[1].bias == pytest.approx((1 + told[0].bias) / 3 - 1, abs=1e-9)
    alone = [s for s in samples if s.measurement.device == "Pixel 4"]
    assert judging.without_each_device(alone, []).summaries == []


def test_signs_are_of_pairs_that_differ():
    chosen = [m for m in chosen_points() if m.family == "conv-bn-relu"]
    pairs = sampling.pairs(chosen, apart=1.05)
    assert len(pairs) > len(sampling.pairs(chosen)) > 0
    assert all(slow.latency_ms >= 1.05 * fast.latency_ms for slow, fast in pairs)


def test_a_baseline_recovers_a_law_that_it_can_express(samples):
    def law(s):
        return (2 * s.macs + 0.5 * s.moved_bytes + 1000) / (s.terms.clock_ghz * 1e6)

    made = [dataclasses.replace(s, measurement=dataclasses.replace(s.measurement, latency_ms=law(s))) for s in samples]
    predict = baselines.macs_and_size(made)
    assert all(predict(s) == pytest.approx(law(s), rel=1e-6) for s in made)


def test_a_measurement_without_a_profile_or_core_is_refused(samples):
    m = samples[0].measurement
    with pytest.raises(RecipeError, match="no device profile for 'Nokia'"):
        datasets.place(dataclasses.replace(m, device="Nokia"))
    with pytest.raises(RecipeError, match="pixel4 has no cortex-x4"):
        datasets.place(dataclasses.replace(m, core="cortex-x4"))
    with pytest.raises(RecipeError, match="no counts of"):
        datasets.gather([m], CountStore(), count=None)


def test_the_docs_show_the_shipped_constants(repo_root):
    shipped = calibration_file.load(calibration_file.SHIPPED)
    assert tables.constants(shipped) in (repo_root / "docs" / "estimates.md").read_text(encoding="utf-8")
