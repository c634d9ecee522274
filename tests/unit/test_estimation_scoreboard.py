"""Cycles of blocks whose answer follows from the core's own published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from estimation_words import B_NE, FADD_CHAIN, LOAD_X1, SUBS, Block, Counts, fmla, load_d, load_q

from pocketforge.errors import RecipeError
from pocketforge.estimation import core_tables
from pocketforge.estimation.blocks import run_blocks
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.core_tables import core_names
from pocketforge.estimation.decode import decode
from pocketforge.estimation.scoreboard import BlockTime, time_block

ADDS = [0x91000400, 0x91000421, 0x91000442, 0x91000463]  # add xN, xN, #1


def cycles(words: list[int], core: str, *, loops: bool = True) -> BlockTime:
    return time_block(decode(words), load_core(core), loops=loops)


@pytest.mark.parametrize(
    ("core", "expected"),
    [("cortex-a53", 8.0), ("cortex-a55", 8.0), ("cortex-a72", 8.0), ("cortex-a76", 4.0), ("cortex-x1", 2.0)],
)
def test_independent_fmla_run_at_the_pipes_rate(core: str, expected: float) -> None:
    found = cycles([fmla(n) for n in range(8)] * 2, core, loops=False)
    assert found.cycles == pytest.approx(2 * expected, rel=0.05)
    assert found.bound.startswith("pipe")


def test_one_accumulator_waits_for_its_latency() -> None:
    """FMLA into one register: 2 cycles on A76 (late forwarding), 4 on A55 (none)."""
    assert cycles([fmla(0)], "cortex-a76").cycles == pytest.approx(2)
    assert cycles([fmla(0)], "cortex-a55").cycles == pytest.approx(4)
    assert cycles([fmla(0)], "cortex-a76").bound == "dependency chain"
    assert cycles([FADD_CHAIN], "cortex-a76").cycles == pytest.approx(2)


def test_a_block_that_does_not_loop_has_no_chain_to_itself() -> None:
    assert cycles([fmla(0)], "cortex-a76", loops=False).cycles == pytest.approx(0.5)


def test_pointer_chasing_costs_the_load_latency() -> None:
    assert cycles([LOAD_X1], "cortex-a76").cycles == pytest.approx(4)
    assert cycles([LOAD_X1], "cortex-a53").cycles == pytest.approx(3)


@pytest.mark.parametrize(("core", "expected"), [("cortex-a53", 2.0), ("cortex-a76", 4 / 3), ("cortex-a77", 1.0)])
def test_integer_work_is_bound_by_width_or_units(core: str, expected: float) -> None:
    assert cycles(ADDS, core).cycles == pytest.approx(expected, rel=0.05)


def test_in_order_loads_of_128_bits_stop_the_multiplies() -> None:
    """ncnn's notes: on A55 a 64-bit vector load goes with an FMLA, a 128-bit one takes two cycles of its own."""
    narrow = [word for n in range(4) for word in (fmla(n), load_d(16 + n))]
    wide = [word for n in range(4) for word in (fmla(n), load_q(16 + n))]
    alone = [fmla(n) for n in range(4)]
    assert cycles(alone, "cortex-a55").cycles == pytest.approx(4)
    assert cycles(narrow, "cortex-a55").cycles == pytest.approx(4)
    assert cycles(wide, "cortex-a55").cycles == pytest.approx(12)
    assert cycles(narrow, "cortex-a53").cycles > cycles(narrow, "cortex-a55").cycles
    assert cycles(wide, "cortex-a76").cycles == pytest.approx(2, rel=0.3)


@pytest.mark.parametrize("core", core_names())
def test_no_block_beats_its_bounds(core: str) -> None:
    for words in ([fmla(n) for n in range(12)], ADDS, [load_q(1), fmla(2), SUBS, B_NE], [LOAD_X1, *ADDS]):
        found = cycles(words, core)
        assert found.cycles >= 0.97 * max(found.bounds.values())


@pytest.mark.parametrize("core", core_names())
def test_every_table_has_sources(core: str) -> None:
    model = load_core(core)
    assert set(model.sources) >= {"fp_mac", "vload", "width", "writeback"}
    assert all(source.split(":")[0] in ("published", "measured", "believed") for source in model.sources.values())


@pytest.mark.parametrize(
    ("text", "other", "says"),
    [
        ("alu = { uses = ", "alu = { use = ", "use"),
        ("latency = 12, cycles", "latency = 1.5, cycles", "groups['divide'].latency"),
        ('multiply = { uses = ["M"]', 'multiply = { uses = ["N"]', "groups.multiply: no pipe 'N'"),
        ('L = ["L0", "L1"]', "L = []", "pipes.L: wanted at least one unit, found none"),
        ("S = 2", "S = 0", "units.S: wanted a whole number of at least 1, found 0"),
        ("window = 128", "window = 1", "window: wanted a whole number of at least 2, found 1"),
        ('window = "chips"', 'window = "cips"', "front.window: no source"),
        ('source = "llvm"', 'source = "lvm"', "no source (key 'lvm')"),
        ('order = "out-of-order"', 'order = "any"', "order: wanted one of in-order, out-of-order, found 'any'"),
    ],
)
def test_tables_that_are_wrong_say_where(tmp_path: Path, monkeypatch: Any, text: str, other: str, says: str) -> None:
    whole = {path.name: path.read_text("utf-8") for path in core_tables.FOLDER.glob("*.toml")}
    assert text in whole["cortex-a76.toml"]
    for name, content in whole.items():
        (tmp_path / name).write_text(content.replace(text, other, 1) if name == "cortex-a76.toml" else content)
    monkeypatch.setattr(core_tables, "FOLDER", tmp_path)
    with pytest.raises(RecipeError, match="cortex-a76") as error:
        core_tables.read_tables("cortex-a76")
    assert says in " ".join((error.value.message, *error.value.faults))


def test_unknown_core() -> None:
    with pytest.raises(RecipeError, match="no pipeline tables for the core 'cortex-z9'"):
        load_core("cortex-z9")


def test_blocks_add_up_and_loops_are_found() -> None:
    loop = [fmla(0), SUBS, B_NE - (2 << 5) + (1 << 5)]  # b.ne to the block's start, two instructions back
    counts = Counts((Block(0x1000, 900, tuple(loop)), Block(0x100C, 10, (ADDS[0], 0xD65F03C0))))
    work = run_blocks(counts, load_core("cortex-a76"))
    assert work.instructions == 900 * 3 + 10 * 2
    assert work.timed[0].loops
    assert not work.timed[1].loops
    assert work.timed[0].cycles == pytest.approx(900 * 2)
    assert (work.loop_exits, work.calls, work.unknown) == (10, 10, 0)


def test_twice_the_executions_take_twice_the_cycles() -> None:
    def of(times: int) -> float:
        blocks = tuple(Block(0x1000 + 64 * n, times * (n + 1), tuple(fmla(k) for k in range(n + 1))) for n in range(4))
        return run_blocks(Counts(blocks), load_core("cortex-a76")).cycles

    assert of(2000) == pytest.approx(2 * of(1000))


def test_bytes_moved_are_exact() -> None:
    counts = Counts((Block(0x1000, 7, (load_q(1), load_d(2), 0xAD0006C0)),))
    work = run_blocks(counts, load_core("cortex-a53"))
    assert (work.loaded_bytes, work.stored_bytes) == (7 * 24, 7 * 32)


def test_a_loop_cut_at_a_page_is_one_loop() -> None:
    whole = (*(fmla(n % 4) for n in range(8)), SUBS, B_NE - (2 << 5) - (7 << 5) + (1 << 5))
    core = load_core("cortex-a55")
    one = run_blocks(Counts((Block(0x1FF0, 500, whole),)), core)
    cut = run_blocks(Counts((Block(0x1FF0, 500, whole[:4]), Block(0x2000, 500, whole[4:]))), core)
    assert cut.timed[0].loops
    assert (cut.cycles, cut.instructions) == (one.cycles, one.instructions)
    apart = run_blocks(Counts((Block(0x1FF0, 499, whole[:4]), Block(0x2000, 500, whole[4:]))), core)
    assert len(apart.timed) == 2
