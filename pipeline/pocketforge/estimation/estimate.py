"""The estimate: exact counts, a model's traffic and a device's facts in; cycles and ms with an interval out.

What it cannot see, and therefore never claims: other threads, clock changes, heat, the scheduler's choice of core,
other programs. It is refused where nothing measured speaks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import DeviceError
from pocketforge.estimation.blocks import CountsLike, TimedBlock, Work, run_blocks
from pocketforge.estimation.calibration_file import Calibration, Chosen, Span, shipped
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.fitting import Terms, split, terms_of
from pocketforge.estimation.instruction import UNKNOWN
from pocketforge.estimation.layers import Layer, layers
from pocketforge.estimation.traffic import Caches, Traffic
from pocketforge.estimation.what_if import WhatIf, changed
from pocketforge.outcomes.files import from_json

VERSION = "3"
"""Of the model: tables, scoreboard, terms. Part of the keys of steps that estimate."""

MOST_UNKNOWN = 0.01
BEYOND = 2.0
"""How far past the measured range (factor) an estimate is still given."""
_TOP = 12
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class HotBlock:
    """One basic block of an inference: where it is, what it costs, and what holds it up.

    Attributes:
        function: It is in; empty where that is not known.
        pc: Its address.
        share: Of the scoreboard's cycles, 0 to 1.
        executions: In an inference.
        instructions: In the block.
        cycles_per_pass: Of the scoreboard.
        bound: The limit that decides, as `scoreboard.BlockTime.bound`.
        loops: Whether it ends in a branch to its own start.
        text: Its first instructions.
    """

    function: str
    pc: int
    share: float
    executions: int
    instructions: int
    cycles_per_pass: float
    bound: str
    loops: bool
    text: tuple[str, ...]

    @property
    def instructions_per_cycle(self) -> float:
        return self.instructions / self.cycles_per_pass if self.cycles_per_pass else 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated cycles and latency of one single-threaded inference. Never a measurement.

    Attributes:
        cycles: compute_cycles + memory_cycles + overhead_cycles.
        compute_cycles: Of the scoreboard, scaled.
        memory_cycles: Waiting for caches and memory.
        overhead_cycles: Of loops that end, and of each operator.
        latency_ms: cycles at clock_ghz.
        low_ms: low_ms…high_ms holds the true latency with probability `coverage`, judged by `basis`.
        high_ms: As low_ms.
        coverage: 0 to 1.
        status: "calibrated", "transferred" or "uncalibrated": how the parameters came to be.
        basis: What the interval was found on, in words.
        core: The core type.
        source_core: The core type whose measurements the parameters are fitted to; empty for none.
        clock_ghz: Of the core.
        instructions: Executed.
        model_version: VERSION, as it was then.
        calibration: SHA-256 of the calibration file.
        top: The blocks that take most, first the one that takes most.
    """

    cycles: float
    compute_cycles: float
    memory_cycles: float
    overhead_cycles: float
    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    status: str
    basis: str
    core: str
    source_core: str
    clock_ghz: float
    instructions: int
    model_version: str
    calibration: str
    top: tuple[HotBlock, ...]

    def to_json(self) -> dict[str, object]:
        """Every field by its name."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Estimate:
        """From `to_json`'s form. Raises ValueError with every key that is wrong."""
        return from_json(data, cls)


def estimate(
    counts: CountsLike,
    traffic: Traffic,
    profile: DeviceProfile,
    cluster: Cluster,
    *,
    threads: int = 1,
    calibration: Calibration | None = None,
    supposed: WhatIf | None = None,
) -> Estimate:
    """Estimate one inference on one core of `cluster`; of the model as it would be, where a change is `supposed`.

    Raises DeviceError when an estimate would be a guess: more than one thread, counts that disagree between windows,
    instructions that the tables do not know, or a model beyond what was measured. Raises RecipeError for a core type
    without tables.
    """
    if threads != 1:
        raise DeviceError(
            f"estimates are for one thread; {threads} were asked for",
            hint="sharing of caches, memory and clocks was not calibrated: set threads = 1, or measure on a phone",
        )
    if not counts.conclusive:
        raise DeviceError(
            "the instruction counts differ between windows beyond the runtime's tolerance: nothing to estimate from",
            hint="count again; if they still differ, the model's work depends on something that changes between runs",
        )
    core = load_core(cluster.core)
    calibration = calibration or shipped()
    chosen = calibration.choose(core)
    work = run_blocks(counts, core)
    if not work.instructions:
        raise DeviceError("the counts hold no instruction", hint="count an inference of the model first")
    if supposed is not None:
        work, traffic = changed(work, traffic, supposed)
    terms = terms_of(work, traffic, Caches.of(cluster, profile))
    _check_known(terms, counts)
    span = calibration.span()
    if span is not None:
        _check_range(terms, span)
    return _made(terms, work, chosen, cluster, calibration)


def _made(terms: Terms, work: Work, chosen: Chosen, cluster: Cluster, calibration: Calibration) -> Estimate:
    compute, memory, overhead = split(terms, chosen.parameters)
    cycles = compute + memory + overhead
    latency = cycles / (cluster.clock_ghz * 1e6)
    total = sum(timed.cycles for timed in work.timed)
    source = f"parameters fitted on {chosen.source_core}" if chosen.source_core else "no parameter fitted"
    return Estimate(
        cycles=cycles,
        compute_cycles=compute,
        memory_cycles=memory,
        overhead_cycles=overhead,
        latency_ms=latency,
        low_ms=latency / chosen.errors.factor,
        high_ms=latency * chosen.errors.factor,
        coverage=calibration.coverage,
        status=chosen.status,
        basis=f"{source}; {chosen.errors.basis} ({chosen.errors.points} measurements in {chosen.errors.groups} groups)",
        core=cluster.core,
        source_core=chosen.source_core,
        clock_ghz=cluster.clock_ghz,
        instructions=work.instructions,
        model_version=VERSION,
        calibration=calibration.digest,
        top=tuple(_hot(timed, total) for timed in work.timed[:_TOP]),
    )


def by_layer(
    counts: CountsLike,
    traffic: Traffic,
    profile: DeviceProfile,
    cluster: Cluster,
    *,
    calibration: Calibration | None = None,
) -> tuple[Layer, ...]:
    """The same inference's estimate, operator by operator: for what `estimate` does not refuse."""
    core = load_core(cluster.core)
    parameters = (calibration or shipped()).choose(core).parameters
    return layers(run_blocks(counts, core), traffic, Caches.of(cluster, profile), parameters)


def _hot(timed: TimedBlock, total: float) -> HotBlock:
    return HotBlock(
        function=timed.block.function,
        pc=timed.block.pc,
        share=timed.cycles / total if total else 0.0,
        executions=timed.block.executions,
        instructions=len(timed.instructions),
        cycles_per_pass=timed.time.cycles,
        bound=timed.time.bound,
        loops=timed.loops,
        text=tuple(instruction.text for instruction in timed.instructions[:_SHOWN]),
    )


def _check_known(terms: Terms, counts: CountsLike) -> None:
    if terms.unknown_share <= MOST_UNKNOWN:
        return
    from pocketforge.estimation.decode import decode

    examples = {
        instruction.text.split()[0] if not instruction.text.startswith(".") else instruction.text
        for block in counts.blocks
        for instruction in decode(block.words)
        if instruction.group == UNKNOWN
    }
    raise DeviceError(
        f"{terms.unknown_share:.1%} of the instructions are in no table (at most {MOST_UNKNOWN:.0%}): "
        f"{', '.join(sorted(examples)[:5])}",
        hint="gate on `instructions`, which is exact, or use a profile whose features select other kernels",
    )


def _check_range(terms: Terms, span: Span) -> None:
    each = terms.instructions / max(terms.operators, 1)
    low, high = span.least_instructions_per_operator, span.most_instructions_per_operator
    if not low / BEYOND <= each <= high * BEYOND:
        raise DeviceError(
            f"{each:,.0f} instructions an operator are outside what was measured ({low:,.0f} to {high:,.0f}; "
            f"estimates reach {BEYOND:g} times further)",
            hint="gate on `instructions`, which is exact, or calibrate with operators of this size",
        )
    moved = terms.memory_bytes / terms.compute_cycles
    if moved > span.most_memory_bytes_per_cycle * BEYOND:
        raise DeviceError(
            f"{moved:.2g} bytes from memory a cycle of computing are beyond what was measured "
            f"(up to {span.most_memory_bytes_per_cycle:.2g}; estimates reach {BEYOND:g} times further): "
            f"its working set of {terms.working_set_bytes:,} bytes outgrows the caches",
            hint="gate on `instructions`, which is exact, or calibrate with models that wait for memory as much",
        )
