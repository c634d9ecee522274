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
    """

    kind: str
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    rows: int = 0


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
    """

    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    clock_ghz: float

    @classmethod
    def of(cls, cluster: Cluster, profile: DeviceProfile) -> Caches:
        # A shared L2 counts whole, as one thread runs. So does the system-level cache: the Pixel 4's blocks whose
        # tensors fit in L3 and it together run as if they never left the chip.
        return cls(cluster.l1d_bytes, cluster.l2_bytes, profile.l3_bytes + profile.slc_bytes, cluster.clock_ghz)


@dataclass(frozen=True, slots=True)
class Levels:
    """Bytes that one inference moves from (and to) each level beyond the first cache.

    Attributes:
        l2_bytes: The second cache.
        l3_bytes: What cores share.
        memory_bytes: Memory.
    """

    l2_bytes: float
    l3_bytes: float
    memory_bytes: float


def levels(traffic: Traffic, caches: Caches) -> Levels:
    """Where the bytes come from in a steady run of inferences.

    The first read of a weight comes from the smallest cache that holds the whole working set (a cyclic walk over more
    than a cache holds leaves nothing of use in it); each further pass from the smallest that holds that operator's
    weights; activations from the smallest that holds that operator's input and output.
    """
    moved = [0.0, 0.0, 0.0, 0.0]
    cold = _level(traffic.working_set_bytes, caches)
    for operator in traffic.operators:
        passes = max(1, -(-operator.rows // ROWS_PER_PASS))
        moved[cold] += operator.weight_bytes
        moved[_level(operator.weight_bytes, caches)] += operator.weight_bytes * (passes - 1)
        activations = operator.input_bytes + operator.output_bytes
        moved[_level(activations, caches)] += activations
    return Levels(*moved[1:])


def _level(size: int, caches: Caches) -> int:
    """0 for the first cache … 3 for memory: the smallest level that holds `size` bytes."""
    # Half of the first cache: the other operand's rows and the outputs pass through it as well.
    for level, capacity in enumerate((caches.l1_bytes // 2, caches.l2_bytes, caches.l2_bytes + caches.l3_bytes)):
        if size <= capacity:
            return level
    return 3


def _operator(entry: Mapping[str, object]) -> Operator:
    def size(key: str, default: int | None = None) -> int:
        value = entry.get(key, default)
        if type(value) is not int or value < 0:
            raise ValueError(
                f"{entry.get('kind', 'operator')}.{key}: wanted a whole number of at least 0, found {value!r}"
            )
        return value

    kind = str(entry.get("kind", ""))
    return Operator(kind, size("weight_bytes"), size("input_bytes"), size("output_bytes"), size("rows", 0))
