"""From a published latency to a point of the fit: its model file, its instruction counts, its terms."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketforge.device_calibration import micro_models
from pocketforge.device_calibration.counted import CountStore, Run, run_key
from pocketforge.device_calibration.operators import operators
from pocketforge.device_calibration.published import DATA, Published
from pocketforge.devices.profile_files import load_profile, shipped_profiles
from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import RecipeError
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.decode import decode
from pocketforge.estimation.fitting import Point, Terms, features
from pocketforge.estimation.traffic import Traffic
from pocketforge.files import refuse_special

COUNTS = DATA / "counts.json.gz"

# The devices of the published tables → device profiles. A table that names no device but a core and its clock gets a
# device of that class: its caches and memory are then believed, not known.
_PROFILES = {
    "Pixel 4": "pixel4",
    "Pixel 4 (little cores)": "pixel4",
    "Pixel 3a": "pixel3a",
    "Mi 11": "mi11",
    "Pixel 6": "pixel6",
    "A75 phone (Pixel 3 class)": "pixel3",
    "Pixel 2 class": "pixel2",
    "Pixel 2 class (little cores)": "pixel2",
    "unnamed A55 device": "pixel3a",
    "A72 device": "rpi4b",
    "RPi 4B": "rpi4b",
    "RPi 5": "rpi5",
    "Helio P35 phone": "helio-p35",
}

# Counts an inference of a file (bytes) on a cluster with the kernels named ("xnnpack", "builtin"): (pc, executions,
# words) of each block.
Counter = Callable[[bytes, Published, DeviceProfile, Cluster, str], list[tuple[int, int, tuple[int, ...]]]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A measurement with everything that predicts it.

    Attributes:
        measurement: The published one.
        kernels: Whose kernels ran: "xnnpack" or "builtin".
        sha256: Of the model file.
        macs: Its multiply-accumulates.
        moved_bytes: Weights and activations, each once.
        terms: What the model of time goes by.
        groups: Instructions executed by group of the core tables; "ldp" are vector loads of two registers.
    """

    measurement: Published
    kernels: str
    sha256: str
    macs: int
    moved_bytes: int
    terms: Terms
    groups: Mapping[str, int]

    @property
    def label(self) -> str:
        """Unique over devices, precisions and kernels."""
        m = self.measurement
        return f"{m.name} {m.precision} {self.kernels} on {m.device}, {m.core} {m.clock_ghz:g} GHz"

    def point(self) -> Point:
        """What a fit takes."""
        m = self.measurement
        return Point(self.label, m.family, self.terms, m.latency_ms, device=m.device.split(" (")[0], core=m.core)


def kernels_of(m: Published) -> tuple[str, ...]:
    """Whose kernels a measurement ran; both where its source does not say."""
    if "kernels unknown" in m.note:
        return ("builtin", "xnnpack")
    return ("builtin",) if m.builtin_kernels else ("xnnpack",)


def model_file(m: Published, folder: Path | None = None) -> bytes:
    """The file that was measured, made again; for a hand-made manifest, the file in `folder`, by its SHA-256."""
    if m.kind == "model":
        build = {"mobilenet_v1": micro_models.mobilenet_v1, "mobilenet_v2": micro_models.mobilenet_v2}[m.name]
        return build("int8" if m.precision == "int8" else "fp32")
    if m.kind == "op":
        hw, cin, cout, kernel, stride = m.shape
        return micro_models.operator(
            m.family, hw, cin, cout, kernel, stride, precision="int8" if m.precision == "int8" else "fp32"
        )
    if m.kind == "block":
        return micro_models.block(m.name)
    path = (folder or Path()) / f"{m.name}.tflite"
    try:
        refuse_special(path)
        data = path.read_bytes()
    except OSError as fault:
        raise RecipeError(
            f"cannot read {path}, which the manifest names: {fault.strerror}",
            "keep the manifest in the folder that `pocketforge device calibrate --suite` made",
        ) from None
    if hashlib.sha256(data).hexdigest() != m.note:
        raise RecipeError(f"{path} is not the file that was measured: its SHA-256 differs from the manifest's")
    return data


def place(m: Published, profile_name: str = "") -> tuple[DeviceProfile, Cluster]:
    """The profile and cluster that a measurement ran on, at the measured clock. RecipeError: no such core there."""
    name = profile_name or _PROFILES.get(m.device, m.device)
    if not profile_name and name not in shipped_profiles() and not Path(name).is_file():
        raise RecipeError(
            f"no device profile for {m.device!r}, which {m.source or 'the table'} measured",
            f"say --profile NAME; known: {', '.join(shipped_profiles())}",
        )
    profile = load_profile(name)
    of_core = [c for c in profile.clusters if c.core == m.core]
    if not of_core:
        cores = ", ".join(sorted({c.core for c in profile.clusters}))
        raise RecipeError(f"{profile.name} has no {m.core}, which {m.name} was measured on", f"its cores: {cores}")
    nearest = min(of_core, key=lambda c: abs(c.clock_ghz - m.clock_ghz))
    return profile, replace(nearest, clock_ghz=m.clock_ghz)


def gather(
    measurements: Sequence[Published],
    store: CountStore,
    *,
    count: Counter | None,
    folder: Path | None = None,
    profile: str = "",
    emit: Callable[[str], None] = lambda _: None,
) -> list[Sample]:
    """Samples of measurements (all of them `usable`); what `store` lacks is counted and added to it.

    Raises RecipeError for a measurement without profile, or one to be counted when `count` is None.
    """
    samples = []
    for m in measurements:
        where, cluster = place(m, profile)
        data = model_file(m, folder)
        digest = hashlib.sha256(data).hexdigest()
        counted = operators(data)
        for kernels in kernels_of(m):
            key = run_key(digest, m.core, kernels)
            if key not in store:
                if count is None:
                    raise RecipeError(f"no counts of {m.name} on {m.core}", "set up the emulator to count it")
                emit(f"counting {m.name} on {m.core}, {kernels} kernels")
                store.add(key, count(data, m, where, cluster, kernels))
            traffic = Traffic(tuple(operator.moved for operator in counted))
            run = store.run(key)
            terms = features(run, traffic, load_core(m.core), cluster, where)
            macs, moved = sum(operator.macs for operator in counted), traffic.weight_bytes + traffic.activation_bytes
            samples.append(Sample(m, kernels, digest, macs, moved, terms, _groups(run)))
    return samples


def _groups(run: Run) -> dict[str, int]:
    groups: Counts[str] = Counts()
    for block in run.blocks:
        for group, times in _groups_of(block.words):
            groups[group] += times * block.executions
    return dict(groups)


@functools.lru_cache(maxsize=65536)
def _groups_of(words: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    found = Counts("ldp" if i.group == "vload" and i.registers == 2 else i.group for i in decode(words))
    return tuple(found.items())


def lacking(measurements: Sequence[Published], store: CountStore, folder: Path | None = None) -> int:
    """How many of the measurements have no counts in `store`."""
    missing = 0
    for m in measurements:
        digest = hashlib.sha256(model_file(m, folder)).hexdigest()
        missing += sum(run_key(digest, m.core, kernels) not in store for kernels in kernels_of(m))
    return missing


def why_not(m: Published) -> str:
    """Why a row of the shipped tables is not used; empty when it is."""
    if m.usable:
        return m.usable
    if m.note == "before":
        return "measured before a kernel was added that today's library has"
    return "" if m.device in _PROFILES else f"no device profile for {m.device}"
