"""What a model's operators move: weights and activations, and how often each weight is read again.

The counts say how many bytes were loaded, not from where. Where from follows from sizes: a convolution's kernel takes
the output positions a few rows at a time and walks all of its weights for each (XNNPACK's and MLAS's GEMM blocking),
so weights that outgrow a cache are read from the next one again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from pocketforge.devices.profiles import Cluster, DeviceProfile

ROWS_PER_PASS = 6
"""Output positions that one pass over the weights serves: 6 in XNNPACK's fp32 micro-kernels (in its int8 ones 4, whose
weights are a quarter of the bytes)."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        kind: As its format calls it: CONV_2D, Conv …
        weight_bytes: Of all of its weights.
        input_bytes: Of its activations.
        output_bytes: Of what it makes.
        rows: Output positions that each use all of its weights (0: none do).
        window_bytes: Of a depthwise convolution: read of its input again, for the next rows of the output.
        window_held_bytes: The rows of input that one row of the output needs: what has to stay near until then.
        taps: Of a depthwise convolution: values of its window, each a multiply-accumulate for every output value.
    """

    kind: str
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    rows: int = 0
    window_bytes: int = 0
    window_held_bytes: int = 0
    taps: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a model file's operators move.

    Attributes:
        operators: In the order in which they run.
    """

    operators: tuple[Operator, ...]

    @property
    def weight_bytes(self) -> int:
        return sum(operator.weight_bytes for operator in self.operators)

    @property
    def activation_bytes(self) -> int:
        """Read and written, each operator's input and output once."""
        return sum(operator.input_bytes + operator.output_bytes for operator in self.operators)

    @property
    def peak_activation_bytes(self) -> int:
        return max((operator.input_bytes + operator.output_bytes for operator in self.operators), default=0)

    @property
    def working_set_bytes(self) -> int:
        """What an inference touches: it decides in which cache the weights survive until the next one."""
        return self.weight_bytes + self.peak_activation_bytes

    def to_json(self) -> dict[str, list[dict[str, object]]]:
        """{"operators": [a row of Operator's fields]}."""
        return {"operators": [asdict(operator) for operator in self.operators]}

    @classmethod
    def from_json(cls, data: Mapping[str, Iterable[Mapping[str, object]]]) -> Traffic:
        """From `to_json`'s form; further keys are left alone. Raises ValueError for a missing or negative size."""
        return cls(tuple(_operator(entry) for entry in data["operators"]))


@dataclass(frozen=True, slots=True)
class Caches:
    """What one core sees; a size of 0: there is none.

    Attributes:
        l1_bytes: Its first cache for data.
        l2_bytes: Its second, or its share of one.
        l3_bytes: All that is shared beyond l2_bytes, the system-level cache included.
        clock_ghz: Its clock, which turns bytes/s into bytes/cycle.
        memory_gb_per_s: The memory's peak.
    """

    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    clock_ghz: float
    memory_gb_per_s: float

    @classmethod
    def of(cls, cluster: Cluster, profile: DeviceProfile) -> Caches:
        # A shared L2 counts whole, as one thread runs. So does the system-level cache: the Pixel 4's blocks whose
        # tensors fit in L3 and it together run as if they never left the chip.
        shared = profile.l3_bytes + profile.slc_bytes
        return cls(cluster.l1d_bytes, cluster.l2_bytes, shared, cluster.clock_ghz, profile.memory_bandwidth_gb_per_s)


Shares = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Levels:
    """Bytes that one operator moves from (and to) each level beyond the first cache.

    Attributes:
        l2_bytes: The second cache.
        l3_bytes: What cores share.
        memory_bytes: Memory.
        window_bytes: Of those of the second cache and beyond, what depthwise convolutions read again row by row: too
            late for the first cache, and in too short pieces for its prefetching. In none of the above.
    """

    l2_bytes: float
    l3_bytes: float
    memory_bytes: float
    window_bytes: float = 0.0


def levels(traffic: Traffic, caches: Caches) -> tuple[Levels, ...]:
    """Where each operator's bytes come from in a steady run of inferences.

    The first read of a weight finds what the whole working set leaves of it; each further pass what that operator's
    weights leave; activations what that operator's input and output leave (`_shares`).
    """
    cold = _shares(traffic.working_set_bytes, caches)
    return tuple(_levels(operator, cold, caches) for operator in traffic.operators)


def _levels(operator: Operator, cold: Shares, caches: Caches) -> Levels:
    passes = max(1, -(-operator.rows // ROWS_PER_PASS))
    activations = operator.input_bytes + operator.output_bytes
    moves = (
        (operator.weight_bytes, cold),
        (operator.weight_bytes * (passes - 1), _shares(operator.weight_bytes, caches)),
        (activations, _shares(activations, caches)),
    )
    second, third, memory = (sum(size * shares[level] for size, shares in moves) for level in (1, 2, 3))
    return Levels(second, third, memory, operator.window_bytes * (1 - _shares(operator.window_held_bytes, caches)[0]))


def _shares(size: int, caches: Caches) -> Shares:
    """Of `size` bytes that are walked again and again: the share found in the first cache, the second …, in memory.

    A cache keeps the share of them that it has room for: exactly so with the best replacement, and about so with the
    pseudo-random one of Arm's shared caches. A step (all or nothing, as strict LRU has it) was tried, and is worse.
    """
    if not size:
        return 1.0, 0.0, 0.0, 0.0
    # Half of the first cache: the other operand's rows and the outputs pass through it as well.
    capacities = (caches.l1_bytes // 2, caches.l2_bytes, caches.l2_bytes + caches.l3_bytes)
    kept = [min(1.0, capacity / size) for capacity in capacities]
    first, second, third = kept[0], max(kept[:2]), max(kept)
    return first, second - first, third - second, 1.0 - third


def _operator(entry: Mapping[str, object]) -> Operator:
    def size(key: str, default: int | None = None) -> int:
        value = entry.get(key, default)
        if type(value) is not int or value < 0:
            raise ValueError(
                f"{entry.get('kind', 'operator')}.{key}: wanted a whole number of at least 0, found {value!r}"
            )
        return value

    kind = str(entry.get("kind", ""))
    return Operator(
        kind, size("weight_bytes"), size("input_bytes"), size("output_bytes"), size("rows", 0),
        size("window_bytes", 0), size("window_held_bytes", 0), size("taps", 0),
    )  # fmt: skip
