"""What is known of a device: its clusters of cores, caches, memory and instruction set, each fact with its source.

`pocketforge.devices.profile_files` reads profiles from TOML. The emulator makes from one what a model's runtime
sees of the device; the estimate takes its clocks, caches and bandwidths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# measured: on such a device, by whom the source says; published: by the maker, or in the kernel's or firmware's
# own files; believed: by someone who should know, or from a sister chip.
Status = Literal["measured", "published", "believed"]


@dataclass(frozen=True, slots=True)
class FactSource:
    """How sure a fact is, and where it is from.

    Attributes:
        status: How sure.
        source: Where it is from, in words.
    """

    status: Status
    source: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """Cores of one kind at one clock.

    Attributes:
        name: big, mid, little …
        core: As in `-mcpu` (`cortex-a76`).
        count: So many cores.
        clock_ghz: The highest.
        l1d_bytes: Data cache of one core.
        l1i_bytes: Instruction cache of one core.
        l2_bytes: Of one core, or of the whole cluster where `l2_shared`.
        l2_shared: Whether the cluster has one for all.
        midr: The core's MIDR_EL1, which tells the libraries which core they run on.
        sources: Field → how sure it is.
        sustained_bandwidth_gb_per_s: What one core reads from memory in a stream, in 10^9 bytes/s; 0.0 when unknown.
    """

    name: str
    core: str
    count: int
    clock_ghz: float
    l1d_bytes: int
    l1i_bytes: int
    l2_bytes: int
    l2_shared: bool
    midr: int
    sources: Mapping[str, FactSource]
    sustained_bandwidth_gb_per_s: float = 0.0

    @property
    def implementer(self) -> int:
        """MIDR_EL1 bits 31-24: who made the core (0x41 Arm, 0x51 Qualcomm)."""
        return self.midr >> 24

    @property
    def variant(self) -> int:
        """Bits 23-20: the n of rnpm."""
        return self.midr >> 20 & 0xF

    @property
    def part(self) -> int:
        """Bits 15-4: which core."""
        return self.midr >> 4 & 0xFFF

    @property
    def revision(self) -> int:
        """Bits 3-0: the m of rnpm."""
        return self.midr & 0xF


@dataclass(frozen=True, slots=True)
class AndroidNames:
    """What a phone of this kind calls itself, by which a connected one is known; empty where not known.

    Attributes:
        devices: ro.product.device.
        models: ro.product.model.
        soc_models: ro.soc.model, which phones have from Android 12.
        platforms: ro.board.platform, which chips of one family share.
        sources: Field → how sure it is.
    """

    devices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    soc_models: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    sources: Mapping[str, FactSource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One device.

    Attributes:
        name: By which recipes name it.
        title: For tables.
        soc: The chip's name.
        year: In which it came out.
        os: `linux` or `android`.
        ram_bytes: Main memory.
        memory: Its kind, in words.
        memory_bandwidth_gb_per_s: The memory's peak, in 10^9 bytes/s.
        l3_bytes: 0 where there is none.
        slc_bytes: System-level cache; 0 where there is none.
        features: As Linux reports them for the device, in /proc/cpuinfo's names: what all of its cores have.
        clusters: The fastest first.
        sources: Field → how sure it is.
        android: None for what is no phone, and for a profile that does not say it.
    """

    name: str
    title: str
    soc: str
    year: int
    os: str
    ram_bytes: int
    memory: str
    memory_bandwidth_gb_per_s: float
    l3_bytes: int
    slc_bytes: int
    features: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    sources: Mapping[str, FactSource]
    android: AndroidNames | None = None

    def cluster(self, name: str = "") -> Cluster:
        """The cluster of that name, or the fastest. Raises ValueError, which names those there are."""
        if not name:
            return self.clusters[0]
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        known = ", ".join(c.name for c in self.clusters)
        raise ValueError(f"{self.name} has no cores named {name!r}; known: {known}")
