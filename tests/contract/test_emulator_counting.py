"""Counts of real files under qemu: the same every time, of the right kinds, by log and by plugin alike."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.device_calibration import micro_models
from pocketforge.devices.emulator import counting, log_switch, plugin
from pocketforge.devices.emulator.counting import basic_blocks, count
from pocketforge.devices.emulator.counts import CLASSES, Counts, compare
from pocketforge.devices.emulator.launch import Machine, Order
from pocketforge.devices.emulator.parts import Emulator
from pocketforge.devices.profile_files import load_profile
from pocketforge.errors import DeviceError, DeviceTimeout, ToolFailed
from pocketforge.files import hash_file

PLUGIN_QEMU = "POCKETFORGE_PLUGIN_QEMU"
HOW = f"tests/tools/build_plugin_qemu.sh FOLDER, then {PLUGIN_QEMU}=FOLDER/qemu-aarch64"
SIDE, CHANNELS = 14, 64
# So many windows of the small MobileNet take seconds.
MANY = 16
MACS = SIDE * SIDE * CHANNELS * CHANNELS


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Order]:
    """A 1 × 1 convolution in float32 and in int8, and a small MobileNetV1 in int8."""
    folder = tmp_path_factory.mktemp("counted")
    files = {
        "fp32": micro_models.operator("conv-bn-relu", SIDE, CHANNELS, CHANNELS, 1, 1, precision="fp32"),
        "int8": micro_models.operator("conv-bn-relu", SIDE, CHANNELS, CHANNELS, 1, 1),
        "mobilenet": micro_models.mobilenet_v1("int8", size=96, width=0.25),
    }
    shapes = {"fp32": (SIDE, SIDE, CHANNELS), "int8": (SIDE, SIDE, CHANNELS), "mobilenet": (96, 96, 3)}
    made = {}
    for name, content in files.items():
        (folder / f"{name}.tflite").write_bytes(content)
        values = np.random.default_rng(0).integers(-100, 100, shapes[name], dtype=np.int8)
        (values.astype("<f4") if name == "fp32" else values).tofile(folder / f"{name}.bin")
        made[name] = Order("tflite", folder / f"{name}.tflite", "", (folder / f"{name}.bin",), folder / name, "count")
    return made


def counted(emulator: Emulator, order: Order, timeout_s: float = 200) -> Counts:
    device = load_profile("pixel4")
    return count(Machine(emulator, device, device.cluster(), timeout_s), order)


@pytest.fixture(scope="module")
def by_precision(emulator: Emulator, orders: dict[str, Order]) -> dict[str, Counts]:
    return {precision: counted(emulator, orders[precision]) for precision in ("fp32", "int8")}


def test_a_count_is_the_same_every_time(
    emulator: Emulator, orders: dict[str, Order], by_precision: dict[str, Counts]
) -> None:
    again = counted(emulator, orders["int8"])
    assert again == by_precision["int8"]
    assert again.conclusive and again.windows[0] == again.windows[1] == again.instructions


def test_a_log_of_the_windows_alone_counts_what_a_whole_log_counts(
    emulator: Emulator, orders: dict[str, Order], by_precision: dict[str, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    turned: list[bool] = []
    real = log_switch.turn_on

    def turn_on(process: int) -> bool:
        turned.append(real(process))
        return turned[-1]

    monkeypatch.setattr(plugin, "find", lambda *_: None)
    monkeypatch.setattr(log_switch, "turn_on", turn_on)
    windows = counted(emulator, orders["int8"])
    # Twice where the first two windows differ: it is counted again with another warm-up.
    assert turned and all(turned)
    monkeypatch.setattr(log_switch, "turn_on", lambda _process: False)
    whole = counted(emulator, orders["int8"])
    assert windows == whole == by_precision["int8"]


def test_a_count_of_an_onnx_file_hangs_on_no_clock_and_no_name(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime does more when two seconds have passed, and less or more by where names moved its memory."""
    from onnx import TensorProto, helper, save

    value, node = helper.make_tensor_value_info, helper.make_node("MatMul", ["x", "x"], ["y"])
    ends = [[value(name, TensorProto.FLOAT, [8, 8])] for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", *ends), ir_version=9, opset_imports=[helper.make_opsetid("", 17)]
    )
    found = []
    real = log_switch.turn_on

    def late(process: int) -> bool:
        time.sleep(2.1)
        return real(process)

    monkeypatch.setattr(plugin, "find", lambda *_: None)
    for folder, turn_on in (tmp_path / "a", real), (tmp_path / ("b" * 90), late):
        folder.mkdir()
        save(model, folder / "m.onnx")
        np.linspace(-1, 1, 64, dtype="<f4").tofile(folder / "x.bin")
        monkeypatch.setattr(log_switch, "turn_on", turn_on)
        order = Order("onnx", folder / "m.onnx", "", (folder / "x.bin",), folder / "out", "count")
        found.append(counted(emulator, order))
    assert found[0] == found[1] and found[0].instructions > 8**3 / 4


def test_float_costs_more_than_int8_and_each_uses_its_own_kernels(by_precision: dict[str, Counts]) -> None:
    fp32, int8 = by_precision["fp32"], by_precision["int8"]
    assert fp32.instructions > 1.5 * int8.instructions
    # FMLA multiplies 4 pairs, SDOT 16.
    assert MACS / 4 <= fp32.by_class["fp_mac"] <= 1.2 * MACS / 4 and "dot" not in fp32.by_class
    assert MACS / 16 <= int8.by_class["dot"] <= 1.2 * MACS / 16 and int8.by_class.get("fp_mac", 0) < MACS / 1000
    grown = compare(int8, fp32)
    assert (grown[0].before, grown[0].after) == (int8.instructions, fp32.instructions)
    assert grown[1].name == "fp_mac" and [r.name for r in grown if r.kind == "class"][-1] == "dot"


def test_every_instruction_has_a_class_a_function_and_a_library(
    emulator: Emulator, by_precision: dict[str, Counts]
) -> None:
    for found in by_precision.values():
        assert set(found.by_class) <= set(CLASSES)  # no unknown words
        for sums in (found.by_class, found.by_function):
            assert sum(sums.values()) == found.instructions
        assert sum(b.executions * len(b.words) for b in found.blocks) == found.instructions
        assert found.libraries["libLiteRt.so"] == hash_file(emulator.libraries["tflite"])
        assert {name.partition("!")[0].partition("+0x")[0] for name in found.by_function} <= set(found.libraries)
        hottest = next(iter(found.by_function))
        assert hottest.startswith("libLiteRt.so+0x") and found.by_function[hottest] > found.instructions / 2
        assert Counts.from_json(json.loads(json.dumps(found.to_json()))) == found
        assert found.threads == 1 and found.runner["runtime_version"] == "2.3.0"


@given(st.data())
def test_basic_blocks_do_not_depend_on_how_qemu_cut_them(data: st.DataObject) -> None:
    nop, branch = 0xD503201F, 0x14000002
    code = data.draw(st.lists(st.sampled_from([nop, nop, nop, branch]), min_size=1, max_size=30))
    whole, cut = [], []
    for start in data.draw(st.lists(st.integers(0, len(code) - 1), max_size=5)):
        end = next((i + 1 for i in range(start, len(code)) if code[i] == branch), len(code))
        runs, middle = data.draw(st.integers(0, 5)), data.draw(st.integers(start, end))
        whole.append((4 * start, runs, tuple(code[start:end])))
        cut += [(4 * start, runs, tuple(code[start:middle])), (4 * middle, runs, tuple(code[middle:end]))]
    blocks = basic_blocks(whole)
    assert blocks == basic_blocks(cut)
    assert sum(runs * len(words) for _, runs, words in blocks) == sum(runs * len(words) for _, runs, words in whole)
    assert all(branch not in words[:-1] and runs for _, runs, words in blocks)


def test_a_whole_model(emulator: Emulator, orders: dict[str, Order]) -> None:
    found = counted(emulator, orders["mobilenet"])
    assert found.conclusive and set(found.by_class) <= set(CLASSES)
    macs = 41e6 * (96 / 224) ** 2  # Howard et al. 2017, table 7; a tenth is depthwise, which has no dot products
    assert 0.8 * macs / 16 < found.by_class["dot"] < 1.5 * macs / 16


def plugin_qemu() -> Path:
    named = os.environ.get(PLUGIN_QEMU) or shutil.which("qemu-aarch64")
    if not named:
        pytest.skip(f"needs a qemu with plugins: {HOW}")
    return Path(named)


def test_a_qemu_with_plugins_counts_the_same_by_both_ways(
    emulator: Emulator, orders: dict[str, Order], by_precision: dict[str, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = plugin_qemu()
    if plugin.find(qemu, emulator.reader.parent) is None:
        assert PLUGIN_QEMU not in os.environ, f"{qemu} does not load the plugin"
        pytest.skip(f"{qemu} has no plugins: {HOW}")
    able = replace(emulator, qemu=qemu)
    by_plugin = {name: counted(able, orders[name]) for name in ("fp32", "int8")}
    monkeypatch.setattr(plugin, "find", lambda *_: None)
    by_log = {name: counted(able, orders[name]) for name in ("fp32", "int8")}
    assert json.dumps({k: v.to_json() for k, v in by_plugin.items()}) == json.dumps(
        {k: v.to_json() for k, v in by_log.items()}
    )
    # And the stock qemu gives them too.
    assert by_log == {name: replace(c, cpu=by_log[name].cpu) for name, c in by_precision.items()}


def test_a_stock_qemu_is_known_to_have_no_plugins(emulator: Emulator, tmp_path: Path) -> None:
    assert plugin.find(tmp_path / "absent", emulator.reader.parent) is None
    assert plugin.find(Path("/bin/true"), emulator.reader.parent) is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 65", "qemu's log cannot be counted"),
        ("head -c 100000 >/dev/null; echo 'pf_block_reader: line 7' >&2; exit 65", "line 7"),
        ("cat >/dev/null", "the counter gave no result"),
        ("cat >/dev/null; echo '{\"windows\": 1}'", "wanted 2 windows, found 1"),
    ],
)
def test_a_reader_that_fails_is_named(
    script: str,
    words: str,
    emulator: Emulator,
    orders: dict[str, Order],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugin, "find", lambda *_: None)
    (tmp_path / "reader").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "reader").chmod(0o755)
    with pytest.raises(DeviceError, match=words):
        counted(replace(emulator, reader=tmp_path / "reader"), orders["int8"])


def running(path: Path) -> list[int]:
    """Processes with this path on their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.fsencode(path) in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def own_reader(emulator: Emulator, tmp_path: Path) -> Iterator[Path]:
    """A copy, so that its processes are this test's."""
    yield Path(shutil.copy(emulator.reader, tmp_path / "own_reader"))
    assert not running(tmp_path / "own_reader")


def test_a_count_that_takes_too_long_leaves_nothing_running(
    own_reader: Path, emulator: Emulator, orders: dict[str, Order]
) -> None:
    with pytest.raises(DeviceTimeout, match=r"mobilenet\.tflite was not done in 1 s"):
        counted(replace(emulator, reader=own_reader), replace(orders["mobilenet"], windows=MANY), timeout_s=1)
    assert not running(orders["mobilenet"].model)


def test_a_qemu_killed_while_it_counts_is_an_error_not_a_smaller_count(
    own_reader: Path, emulator: Emulator, orders: dict[str, Order]
) -> None:
    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pid in running(orders["mobilenet"].model):
                time.sleep(0.5)
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ToolFailed, match="SIGKILL"):
        counted(replace(emulator, reader=own_reader), replace(orders["mobilenet"], windows=MANY))
    killer.join()


def test_windows_that_differ_are_not_conclusive(
    emulator: Emulator, orders: dict[str, Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a warm-up the first window holds the runtime's preparations.
    monkeypatch.setattr(counting, "WARMUPS", (0,))
    found = counted(emulator, replace(orders["int8"], warmup=0))
    assert not found.conclusive and found.windows[0] > found.windows[1] == found.instructions
