"""What the estimate reads out of instruction words. The words are an assembler's (LLVM's, through zig) for the text."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.device_calibration.datasets import COUNTS
from pocketforge.estimation.decode import decode
from pocketforge.estimation.instruction import FLAGS, UNKNOWN

V = 32  # number of v0
# Of the 12,958 instruction words in the stored counts.
GROUPS = {
    "alu": 3936, "alu_lsl": 48, "alu_shift": 99, "branch": 2020, "divide": 15, "dot": 140, "fp_add": 86,
    "fp_convert": 52, "fp_divide": 5, "fp_mac": 464, "fp_minmax": 157, "fp_mul": 48, "fp_simple": 10, "fp_sqrt": 2,
    "hint": 2, "insert_gpr": 88, "int_add": 250, "int_mul": 73, "int_mul_long": 362, "int_pair_acc": 24, "load": 2002,
    "logic": 151, "move_gpr": 28, "multiply": 257, "narrow_sat": 90, "permute": 58, "prefetch": 69, "reduce": 2,
    "shift": 81, "shift_round": 39, "store": 1109, "system": 25, "table": 8, "vload": 761, "vload_lane": 111,
    "vload_struct": 1, "vstore": 282, "vstore_lane": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "group", "reads", "writes", "accumulator"),
    [
        (0x4E22CC20, "fp_mac", {V + 1, V + 2}, {V}, V),  # fmla v0.4s, v1.4s, v2.4s
        (0x6E21DC00, "fp_mul", {V, V + 1}, {V}, -1),  # fmul v0.4s, v0.4s, v1.4s
        (0x4FA2E020, "dot", {V + 1, V + 2}, {V}, V),  # sdot v0.4s, v1.16b, v2.4b[1]
        (0x4E82A420, "matmul", {V + 1, V + 2}, {V}, V),  # smmla v0.4s, v1.16b, v2.16b
        (0x6E42EC20, "matmul", {V + 1, V + 2}, {V}, V),  # bfmmla: later than capstone 5
        (0x0E228020, "int_mul_long", {V + 1, V + 2}, {V}, V),  # smlal v0.8h, v1.8b, v2.8b
        (0x1F020C20, "fp_mac", {V + 1, V + 2}, {V}, V + 3),  # fmadd s0, s1, s2, s3
        (0x4E614820, "narrow_sat", {V, V + 1}, {V}, -1),  # sqxtn2 keeps the lower half
        (0x4E181C20, "insert_gpr", {1, V}, {V}, -1),  # ins v0.d[1], x1 keeps the other lane
        (0x4E21D800, "fp_convert", {V}, {V}, -1),  # scvtf v0.4s, v0.4s
        (0x0E0A3C20, "move_gpr", {V + 1}, {0}, -1),  # umov w0, v1.h[2]
        (0x9E660020, "move_gpr", {V + 1}, {0}, -1),  # fmov x0, d1
        (0x8B020C20, "alu_lsl", {1, 2}, {0}, -1),  # add x0, x1, x2, lsl #3
        (0xF2A00020, "alu", {0}, {0}, -1),  # movk keeps the rest
        (0xF1000400, "alu", {0}, {0, FLAGS}, -1),  # subs x0, x0, #1
        (0xF100101F, "alu", {0}, {FLAGS}, -1),  # cmp x0, #4
        (0x9A820020, "alu", {1, 2, FLAGS}, {0}, -1),  # csel x0, x1, x2, eq
        (0x2A1F03E0, "alu", set(), {0}, -1),  # mov w0, wzr
    ],
)
def test_groups_and_registers(word: int, group: str, reads: set[int], writes: set[int], accumulator: int) -> None:
    (found,) = decode([word])
    assert (found.group, set(found.reads), set(found.writes)) == (group, reads, writes)
    assert found.accumulator == accumulator


@pytest.mark.parametrize(
    ("word", "group", "loaded", "stored", "base", "registers", "wide"),
    [
        (0x3CC10400, "vload", 16, 0, 0, 1, True),  # ldr q0, [x0], #16
        (0xFC408400, "vload", 8, 0, 0, 1, False),  # ldr d0, [x0], #8
        (0xF9400021, "load", 8, 0, -1, 1, False),  # ldr x1, [x1]
        (0xADC10440, "vload", 32, 0, 2, 2, True),  # ldp q0, q1, [x2, #32]!
        (0x38626820, "load", 1, 0, -1, 1, False),  # ldrb w0, [x1, x2]
        (0x4D40C860, "vload_lane", 4, 0, -1, 1, True),  # ld1r {v0.4s}, [x3]
        (0x4D408060, "vload_lane", 4, 0, -1, 1, False),  # ld1 {v0.s}[2], [x3]
        (0x4DDF19CB, "vload_lane", 1, 0, 14, 1, False),  # ld1 {v11.b}[14], [x14], #1: capstone writes [0xe]
        (0x4D921CA8, "vstore_lane", 0, 1, 5, 1, False),  # st1 {v8.b}[15], [x5], x18
        (0x4C9FA080, "vstore", 0, 32, 4, 2, True),  # st1 {v0.16b, v1.16b}, [x4], #32
        (0xAD0006C0, "vstore", 0, 32, -1, 2, True),  # stp q0, q1, [x22]
        (0xB900007F, "store", 0, 4, -1, 1, False),  # str wzr, [x3]
        (0xF98080A0, "prefetch", 0, 0, -1, 1, False),  # prfm pldl1keep, [x5, #256]
    ],
)
def test_memory(word: int, group: str, loaded: int, stored: int, base: int, registers: int, wide: bool) -> None:
    (found,) = decode([word])
    assert (found.group, found.load_bytes, found.store_bytes) == (group, loaded, stored)
    assert (found.base, found.registers, found.wide) == (base, registers, wide)
    assert not (stored and found.writes), "a store writes no register but its base"


def test_lane_loads_keep_the_other_lanes() -> None:
    (lane, late_lane, whole) = decode([0x4D408060, 0x4DDF19CB, 0x4D40C860])
    assert V in lane.reads
    assert V + 11 in late_lane.reads
    assert V not in whole.reads


def test_branches_say_how_far() -> None:
    back, call = decode([0x54FFFFE1, 0x94000400])  # b.ne .-4; bl .+4096
    assert (back.branch, call.branch) == (-4, 4096)
    assert FLAGS in back.reads
    assert call.writes == (30,)


def test_what_was_counted_decodes_as_when_the_calibration_was_fitted() -> None:
    """calibration.json was fitted to these groups: after a change here, `device calibrate` has to fit it anew."""
    stored = json.loads(gzip.decompress(COUNTS.read_bytes()))
    texts = {words[at : at + 8] for _, words in stored["blocks"] for at in range(0, len(words), 8)}
    decoded = decode([int(text, 16) for text in texts])
    assert Counter(instruction.group for instruction in decoded) == GROUPS
    figures = {
        "loaded bytes": sum(each.load_bytes for each in decoded),
        "stored bytes": sum(each.store_bytes for each in decoded),
        "reads": sum(len(each.reads) for each in decoded),
        "writes": sum(len(each.writes) for each in decoded),
        "accumulators": sum(each.accumulator >= 0 for each in decoded),
        "written back": sum(each.base >= 0 for each in decoded),
        "wide": sum(each.wide for each in decoded),
    }
    assert figures == {
        "loaded bytes": 28312, "stored bytes": 14223, "reads": 17908, "writes": 10804, "accumulators": 988,
        "written back": 614, "wide": 2655,
    }  # fmt: skip


def test_no_instruction_is_unknown() -> None:
    (found,) = decode([0x00000000])
    assert found.group == UNKNOWN


@given(st.integers(0, 2**32 - 1))
def test_any_word_decodes(word: int) -> None:
    (found,) = decode([word])
    assert all(0 <= register <= FLAGS for register in (*found.reads, *found.writes))
    assert found.load_bytes >= 0
    assert found.text


def test_scalable_loads_decode() -> None:
    (found,) = decode([0xA4156160])  # SVE ldff1b {z0.b}, p0/z, [x11, x21]: never XNNPACK's, but glibc's
    assert found.group in ("vload", UNKNOWN)
