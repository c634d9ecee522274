"""The estimate as a whole: terms from traffic, fitting, intervals, refusals, and what it prints."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
from estimation_words import B_NE, SUBS, UNKNOWN_WORD, Block, Counts, fmla
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import DeviceError, RecipeError
from pocketforge.estimation.blocks import run_blocks
from pocketforge.estimation.calibration_file import Calibration, Errors, load, save
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.core_tables import core_names
from pocketforge.estimation.estimate import VERSION, Estimate, by_layer, estimate
from pocketforge.estimation.explain import explain, layer_rows
from pocketforge.estimation.fitting import NAMES, Parameters, Point, Terms, default_parameters, fit, predict, predict_ms
from pocketforge.estimation.interval import (
    Held,
    calibrate,
    fit_all,
    interval,
    leave_one_device_out,
    leave_one_group_out,
)
from pocketforge.estimation.traffic import Caches, Levels, Operator, Traffic, levels
from pocketforge.estimation.what_if import WhatIf, changed, parse

KB, MB = 1024, 1024 * 1024
CACHES = Caches(l1_bytes=64 * KB, l2_bytes=256 * KB, l3_bytes=2 * MB, clock_ghz=2.0, memory_gb_per_s=34.1)
TRUTH = Parameters(0.95, 1.1, 80.0, 25.0, 0.35, 6.0, 3.0, 400.0)
LOOP = (*(fmla(n) for n in range(8)), SUBS, B_NE - (2 << 5) - (7 << 5) + (1 << 5))


def cluster(core: str = "cortex-a76", clock: float = 2.0) -> Cluster:
    return Cluster("big", core, 4, clock, CACHES.l1_bytes, 64 * KB, CACHES.l2_bytes, False, 0, {})


def profile(*clusters: Cluster) -> DeviceProfile:
    size = CACHES.l3_bytes
    return DeviceProfile("d", "D", "s", 2020, "linux", 4 << 30, "LPDDR4X", 34.1, size, 0, (), clusters, {})


def counts(executions: int = 100_000, *extra: Block) -> Counts:
    return Counts((Block(0x1000, executions, LOOP), *extra))


def operator(weights: int = 1000, inputs: int = 1000, outputs: int = 1000, rows: int = 0) -> Operator:
    return Operator("CONV_2D", weights, inputs, outputs, rows)


def points(seed: int, number: int, parameters: Parameters = TRUTH, noise: float = 0.02, core: str = "") -> list[Point]:
    """Measurements of a machine that is the model with these parameters, and a little noise."""
    rng = random.Random(seed)
    made = []
    for n in range(number):
        cycles = 10 ** rng.uniform(5, 7.5)
        l2, l3, memory, window = (cycles * 10 ** rng.uniform(-2, 0.6) for _ in range(4))
        dense = cycles * rng.uniform(0, 1)
        streams = ((memory * 0.8, dense * 0.1), (memory * 0.2, dense * 0.7))
        terms = Terms(
            2.0, int(2.4 * cycles), cycles, dense, int(cycles / 500), rng.randint(1, 20), int(cycles * 8),
            l2, l3, memory, streams, window, 34.1, 1000, 0.0,
        )  # fmt: skip
        measured = predict_ms(terms, parameters) * math.exp(rng.gauss(0, noise))
        made.append(Point(f"{core}{n}", f"group {n % 12}", terms, measured))
    return made


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    slower = dataclasses.replace(TRUTH, compute_scale=1.1)
    return calibrate(
        {"cortex-a76": points(1, 60), "cortex-a75": points(2, 3, slower), "cortex-a55": points(3, 30, slower)},
        {"cortex-a76": ["Pixel 4"]},
    )


# --- traffic


def whole(traffic: Traffic, caches: Caches) -> Levels:
    """Of all operators together."""
    each = levels(traffic, caches)
    return Levels(*(sum(getattr(level, name.name) for level in each) for name in dataclasses.fields(Levels)))


def test_bytes_come_from_the_smallest_cache_that_holds_them() -> None:
    small = whole(Traffic((operator(10 * KB, 4 * KB, 4 * KB, rows=100),)), CACHES)
    assert small == Levels(0, 0, 0, 0)
    # 64 KB of activations: half of the first cache keeps half of them.
    middle = whole(Traffic((operator(10 * KB, 32 * KB, 32 * KB, rows=6),)), CACHES)
    assert middle.l2_bytes == pytest.approx(32 * KB + 10 * KB * (1 - 32 / 74)) and middle.l3_bytes == 0
    big = whole(Traffic((operator(200 * KB, 8 * KB, 8 * KB, rows=60),)), CACHES)
    assert big.l2_bytes == pytest.approx(200 * KB * 9 * (1 - 32 / 200) + 200 * KB * (1 - 32 / 216))
    # 20 MB walked once an inference: what the caches have room for is found again, the rest is not.
    streamed = whole(Traffic((operator(20 * MB, 0, 0, rows=1),)), CACHES)
    assert streamed.memory_bytes == pytest.approx(20 * MB - 256 * KB - 2 * MB)


def test_weights_that_fit_alone_do_not_survive_a_large_model() -> None:
    """Each operator's weights fit the second cache, but all together they do not: each inference reads them anew."""
    many = Traffic(tuple(operator(100 * KB, 0, 0, rows=4) for _ in range(50)))
    assert whole(many, CACHES).memory_bytes == pytest.approx(50 * 100 * KB - 256 * KB - 2 * MB)


def test_rows_of_a_window_are_read_again_from_where_they_stay() -> None:
    narrow = Operator("DEPTHWISE_CONV_2D", 0, 1000, 1000, window_bytes=2 * MB, window_held_bytes=16 * KB)
    wide = dataclasses.replace(narrow, window_held_bytes=128 * KB)
    assert whole(Traffic((narrow,)), CACHES).window_bytes == 0
    assert whole(Traffic((wide,)), CACHES).window_bytes == pytest.approx(2 * MB * 0.75)


@given(st.lists(st.tuples(*[st.integers(0, 10 * MB)] * 3, st.integers(0, 5000)), max_size=8))
def test_no_byte_is_lost_below_the_weights(sizes: list[tuple[int, int, int, int]]) -> None:
    traffic = Traffic(tuple(operator(*size) for size in sizes))
    none = Caches(0, 0, 0, 1.0, 10.0)
    moved = whole(traffic, none)
    assert moved.memory_bytes >= traffic.weight_bytes + traffic.activation_bytes
    assert whole(traffic, Caches(1 << 40, 0, 0, 1.0, 10.0)).memory_bytes == 0
    assert Traffic.from_json(json.loads(json.dumps(traffic.to_json()))) == traffic


@pytest.mark.parametrize("wrong", [-1, 1.5, "4", None, True])
def test_sizes_that_are_none(wrong: object) -> None:
    with pytest.raises(ValueError, match="weight_bytes: wanted a whole number"):
        Traffic.from_json({"operators": [{"weight_bytes": wrong, "input_bytes": 1, "output_bytes": 1}]})


# --- fitting


def test_fit_finds_what_made_the_measurements() -> None:
    found = fit(points(4, 200, noise=0.01), load_core("cortex-a76"))
    for name in NAMES[:5]:
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=0.15), name
    assert fit(points(4, 200, noise=0.01), load_core("cortex-a76")) == found, "the same again"


def test_a_few_wild_measurements_do_not_move_it() -> None:
    clean = points(5, 60)
    wild = [dataclasses.replace(p, measured_ms=p.measured_ms * 3) if n % 15 == 0 else p for n, p in enumerate(clean)]
    core = load_core("cortex-a76")
    before, after = fit(clean, core), fit(wild, core)
    others = points(6, 50)
    for point in others:
        assert predict(point.terms, after) == pytest.approx(predict(point.terms, before), rel=0.12)


def test_without_measurements_the_priors_stay() -> None:
    core = load_core("cortex-a55")
    assert fit([], core) == default_parameters(core)
    one = fit(points(7, 1, dataclasses.replace(TRUTH, compute_scale=1.2)), load_core("cortex-a76"))
    assert all(math.isfinite(getattr(one, name)) for name in NAMES)


def test_what_core_types_share_speaks_for_one_that_was_not_measured() -> None:
    """Two core types that lie apart in one thing: a third starts from between them, a large table is no louder."""
    slow, quick = (dataclasses.replace(TRUTH, compute_scale=scale) for scale in (1.2, 0.8))
    both = {"cortex-a76": points(20, 300, slow), "cortex-a78": points(21, 30, quick)}
    fitted, shared = fit_all(both)
    assert set(shared) == {"out-of-order"} and set(fitted) == set(both)
    assert (
        fitted["cortex-a78"].compute_scale < shared["out-of-order"].compute_scale < fitted["cortex-a76"].compute_scale
    )
    assert shared["out-of-order"].compute_scale == pytest.approx(1.0, abs=0.12)
    assert fit([], load_core("cortex-x1"), shared["out-of-order"]) == shared["out-of-order"]


def test_computing_hides_what_it_prefetches() -> None:
    """Operator by operator the longer one counts: the same bytes cost nothing beside enough work, all of it alone."""
    (known,) = points(22, 1)
    alone, beside = (dataclasses.replace(known.terms, streams=((1e6, computing),)) for computing in (0.0, 1e9))
    longer = predict(alone, TRUTH) - predict(beside, TRUTH)
    assert longer == pytest.approx(1e6 * 2.0 / (34.1 * TRUTH.memory_share))


def test_a_device_is_left_out_whole() -> None:
    """A device unlike the others is predicted as they are: its own points change nothing in that."""
    odd = [dataclasses.replace(p, measured_ms=p.measured_ms * 1.5, device="odd") for p in points(23, 20)]
    rest = [dataclasses.replace(p, device=f"phone {n % 2}") for n, p in enumerate(points(24, 40))]
    held = leave_one_device_out({"cortex-a76": [*odd, *rest]})
    assert len(held) == 60
    assert all(h.log_error == pytest.approx(math.log(1.5), abs=0.2) for h in held[:20])


# --- intervals


def test_left_out_errors_cover_new_measurements(calibration: Calibration) -> None:
    fitted = calibration.cores["cortex-a76"]
    factor = calibration.errors["cortex-a76"].factor
    fresh = points(8, 300)
    inside = sum(
        1 / factor <= point.measured_ms / predict_ms(point.terms, fitted.parameters) <= factor for point in fresh
    )
    assert inside / len(fresh) >= 0.85


def test_less_knowledge_is_never_narrower(calibration: Calibration) -> None:
    errors = calibration.errors
    assert errors["calibrated"].factor <= errors["transferred"].factor <= errors["uncalibrated"].factor


def test_a_group_of_many_weighs_as_one_of_few() -> None:
    many = [Held(f"m{n}", "many", "c", 1.0, 1.0) for n in range(900)]
    few = [Held(f"f{n}", f"g{n}", "c", 1.5, 1.0) for n in range(11)]
    assert interval([*many, *few], "test").factor == pytest.approx(1.5)
    assert interval([*many, *few], "test", by_group=False).factor < 1.1


def test_too_few_points_take_the_largest_error_widened() -> None:
    found = interval([Held("a", "a", "c", 1.2, 1.0), Held("b", "b", "c", 1.0, 1.0)], "test")
    assert found.factor == pytest.approx(1.2**1.5)
    assert "too few" in found.basis


def test_leaving_a_group_out_leaves_it_out() -> None:
    """A group that no other resembles is predicted badly when left out, and well when not."""
    odd = [dataclasses.replace(p, group="odd", measured_ms=p.measured_ms * 1.3) for p in points(9, 6, core="odd")]
    held = leave_one_group_out({"cortex-a76": [*points(10, 60), *odd]}, "cortex-a76")
    assert {h.group for h in held} == {"odd", *(f"group {n}" for n in range(12))}
    assert all(h.log_error > 0.15 for h in held if h.group == "odd")


def test_out_of_order_cores_do_not_speak_for_in_order_ones() -> None:
    """Two phones whose big cores agree, and whose little ones lie apart: an unknown little core's interval is wider."""
    big = [dataclasses.replace(p, device=f"phone {n % 2}") for n, p in enumerate(points(25, 24))]
    little = [
        dataclasses.replace(p, device=f"phone {n % 2}", measured_ms=p.measured_ms * (1.5 if n % 2 else 1.0))
        for n, p in enumerate(points(26, 24))
    ]
    found = calibrate({"cortex-a76": big, "cortex-a55": little}, {})
    widths = {name: found.choose(load_core(name)).errors.factor for name in ("cortex-x1", "cortex-a510")}
    assert widths["cortex-a510"] >= found.errors["transferred, in-order"].factor > 1.3
    assert widths["cortex-x1"] == found.errors["transferred, out-of-order"].factor < widths["cortex-a510"] * 1.01
    assert found.errors["uncalibrated"].factor >= max(widths.values())


# --- the estimate


def run(
    given_counts: Counts, calibration: Calibration, core: str = "cortex-a76", clock: float = 2.0, threads: int = 1
) -> Estimate:
    where = cluster(core, clock)
    traffic = Traffic((operator(),))
    return estimate(given_counts, traffic, profile(where), where, calibration=calibration, threads=threads)


def test_estimate_says_what_it_is(calibration: Calibration, tmp_path: Path) -> None:
    saved = save(calibration, tmp_path / "c.json")
    found = run(counts(), saved)
    assert found.cycles == pytest.approx(found.compute_cycles + found.memory_cycles + found.overhead_cycles)
    assert found.latency_ms == pytest.approx(found.cycles / 2e6)
    assert found.low_ms < found.latency_ms < found.high_ms
    assert (found.status, found.source_core, found.model_version) == ("calibrated", "cortex-a76", VERSION)
    assert found.calibration == saved.digest
    assert len(found.calibration) == 64
    assert Estimate.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert load(tmp_path / "c.json") == saved


@pytest.mark.parametrize(
    ("core", "status", "source"),
    [
        ("cortex-a75", "calibrated", "cortex-a75"),
        ("cortex-x1", "transferred", "cortex-a75, cortex-a76"),
        ("cortex-a720", "transferred", "cortex-a75, cortex-a76"),
        ("cortex-a510", "transferred", "cortex-a55"),
    ],
)
def test_status_of_other_cores(calibration: Calibration, core: str, status: str, source: str) -> None:
    found = run(counts(), calibration, core)
    assert (found.status, found.source_core) == (status, source)
    assert source in found.basis


def test_no_fit_at_all_is_uncalibrated(calibration: Calibration) -> None:
    bare = dataclasses.replace(calibration, cores={}, shared={})
    found = run(counts(), bare)
    known = run(counts(), calibration)
    assert found.status == "uncalibrated"
    assert found.high_ms / found.low_ms >= known.high_ms / known.low_ms


@pytest.mark.parametrize("core", core_names())
def test_a_faster_clock_is_faster(calibration: Calibration, core: str) -> None:
    assert run(counts(), calibration, core, 2.4).latency_ms < run(counts(), calibration, core, 2.0).latency_ms


def test_refusals(calibration: Calibration) -> None:
    with pytest.raises(DeviceError, match="estimates are for one thread; 4 were asked for"):
        run(counts(), calibration, threads=4)
    with pytest.raises(DeviceError, match="differ between windows"):
        run(dataclasses.replace(counts(), conclusive=False), calibration)
    with pytest.raises(DeviceError, match=r"are in no table \(at most 1%\): udf"):
        run(counts(1000, Block(0x9000, 1000, (UNKNOWN_WORD,))), calibration)
    with pytest.raises(DeviceError, match="instructions an operator are outside what was measured"):
        run(counts(3), calibration)
    with pytest.raises(DeviceError, match="the counts hold no instruction"):
        run(Counts(()), calibration)
    with pytest.raises(RecipeError, match="no pipeline tables for the core 'oryon-9'"):
        run(counts(), calibration, "oryon-9")


def test_a_model_that_only_waits_for_memory_is_refused(calibration: Calibration) -> None:
    where = cluster()
    heavy = Traffic((operator(500 * MB, rows=1),))
    with pytest.raises(DeviceError, match="bytes from memory a cycle of computing are beyond what was measured"):
        estimate(counts(), heavy, profile(where), where, calibration=calibration)


def test_explanation_names_the_hot_block(calibration: Calibration) -> None:
    lines = explain(run(counts(100_000, Block(0x9000, 10, (SUBS,))), calibration))
    assert "estimated on cortex-a76 at 2 GHz" in lines[0]
    assert any("libtest.so!kernel: loop of 10 instructions, 100,000 times" in line for line in lines)
    assert any("bound by pipe V0/V1" in line and "fmla v0.4s" in line for line in lines)


# --- layers, and what if


def network() -> Traffic:
    """A convolution, a depthwise one, an addition, a product over a large matrix."""
    return Traffic(
        (
            Operator("CONV_2D", 4 * 27 * 32, 4 * 3 * 9216, 4 * 32 * 2304, rows=2304),
            Operator(
                "DEPTHWISE_CONV_2D", 4 * 10 * 32, 4 * 32 * 2304, 4 * 32 * 2304,
                window_bytes=8 * 32 * 2304, window_held_bytes=12 * 32 * 48, taps=9,
            ),
            Operator("ADD", 0, 8 * 32 * 2304, 4 * 32 * 2304),
            Operator("FULLY_CONNECTED", 4 * 1000 * 4000, 4 * 4000, 4 * 1000, rows=1),
        )
    )  # fmt: skip


def test_layers_are_the_estimate_divided(calibration: Calibration) -> None:
    where = cluster()
    found = estimate(counts(2_000_000), network(), profile(where), where, calibration=calibration)
    each = by_layer(counts(2_000_000), network(), profile(where), where, calibration=calibration)
    assert math.fsum(layer.cycles for layer in each) == pytest.approx(found.cycles)
    assert [layer.kind for layer in each] == [o.kind for o in network().operators]
    assert math.fsum(layer.overhead_cycles for layer in each) == pytest.approx(found.overhead_cycles)
    assert each[3].weight_bytes == 16_000_000 and each[1].l2_cycles > 2000
    # All of the loop is dense, and is divided by how often a weight is used: once, and at 2304 positions.
    assert each[3].compute_cycles / each[0].compute_cycles == pytest.approx(16_000_000 / (3456 * 2304))
    assert each[2].compute_cycles == 0
    rows = layer_rows(each)
    assert rows[3][:2] == ("4", "FULLY_CONNECTED") and rows[3][-1].startswith(each[3].bound)


def test_a_narrower_model_is_its_parts_with_both_ends_kept(calibration: Calibration) -> None:
    where = cluster()
    core = load_core("cortex-a76")
    work = run_blocks(counts(), core)
    after, traffic = changed(work, network(), WhatIf(0.5))
    first, depthwise, added, last = traffic.operators
    assert (first.input_bytes, first.weight_bytes, first.output_bytes) == (4 * 3 * 9216, 4 * 27 * 16, 4 * 16 * 2304)
    assert (depthwise.weight_bytes, depthwise.input_bytes) == (4 * 10 * 16, 4 * 16 * 2304)
    assert added.output_bytes == 4 * 16 * 2304
    assert (last.input_bytes, last.weight_bytes, last.output_bytes) == (4 * 2000, 4 * 1000 * 2000, 4 * 1000)
    assert after.dense_cycles < work.dense_cycles
    same, unchanged = changed(work, network(), WhatIf(1.0))
    assert unchanged == network() and same.cycles == pytest.approx(work.cycles)
    now = estimate(counts(2_000_000), network(), profile(where), where, calibration=calibration)
    half = estimate(counts(2_000_000), network(), profile(where), where, calibration=calibration, supposed=WhatIf(0.5))
    assert 0.25 < half.latency_ms / now.latency_ms < 0.75


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("depth=2", "wanted width=FACTOR"),
        ("width", "wanted width=FACTOR"),
        ("width=thin", "'thin' is not a number"),
        ("width=0.1", r"wanted 0.25 to 2, found 0.1"),
        ("width=nan", r"wanted 0.25 to 2, found nan"),
    ],
)
def test_what_is_no_supposition(text: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        parse(text)
    assert parse("width=0.75").words == "width=0.75"


def test_files_that_are_no_calibration(tmp_path: Path, calibration: Calibration) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(RecipeError, match="cannot read the calibration file"):
        load(path)
    path.write_text("{}")
    with pytest.raises(RecipeError, match="is not a calibration file"):
        load(path)
    save(dataclasses.replace(calibration, tables="0" * 64), path)
    with pytest.raises(RecipeError, match="fitted with other core tables"):
        load(path)


def test_errors_are_stated_for_every_status(calibration: Calibration) -> None:
    without = dataclasses.replace(calibration, errors={"cortex-a76": Errors(1.1, 5, 5, "x")})
    with pytest.raises(RecipeError, match="no errors for transferred"):
        run(counts(), without, "cortex-x1")


def test_one_core_type_alone_can_be_calibrated() -> None:
    """A phone's own measurements are of one core: what is transferred from it is as wide as with none."""
    alone = calibrate({"cortex-a76": points(11, 30)}, {}, held_out={"cortex-a76": points(12, 15)})
    assert alone.errors["transferred"].factor >= alone.errors["cortex-a76"].factor
    assert run(counts(), alone, "cortex-a78").status == "transferred"


def test_a_core_with_a_measurement_or_two_is_not_called_calibrated() -> None:
    from pocketforge.estimation.calibration_file import shipped

    statuses = {name: shipped().choose(load_core(name)).status for name in ("cortex-a53", "cortex-a75", "cortex-a76")}
    assert statuses == {"cortex-a53": "transferred", "cortex-a75": "calibrated", "cortex-a76": "calibrated"}
