"""TOML → DeviceProfile: strict, every fault of a file at once, each with its path.

Every fact is `{ value = …, status = "measured" | "published" | "believed", source = "…" }`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pocketforge.devices.cpu_features import NAMES
from pocketforge.devices.fact_tables import FactReader, Kinds, Table, mismatch
from pocketforge.devices.profiles import AndroidNames, Cluster, DeviceProfile
from pocketforge.devices.x86.hosts import X86Host, hosts_folder, is_host, parse_host, shipped_hosts
from pocketforge.errors import RecipeError
from pocketforge.folders import shipped_dir
from pocketforge.recipe import suggest
from pocketforge.recipe.names import check_file, check_keys

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")

# Field → (type, lowest, highest). Bounds keep out values in the wrong unit, not unusual devices.
_DEVICE: Kinds = {
    "soc": (str, 0, 0),
    "year": (int, 2011, 2100),
    "os": (str, 0, 0),
    "ram_bytes": (int, 2**26, 2**44),
    "memory": (str, 0, 0),
    "memory_bandwidth_gb_per_s": (float, 0.1, 10_000),
    "l3_bytes": (int, 0, 2**32),
    "slc_bytes": (int, 0, 2**32),
    "features": (list, 0, 0),
}
_CLUSTER: Kinds = {
    "core": (str, 0, 0),
    "count": (int, 1, 1024),
    "clock_ghz": (float, 0.05, 20),
    "l1d_bytes": (int, 1024, 2**24),
    "l1i_bytes": (int, 1024, 2**24),
    "l2_bytes": (int, 0, 2**30),
    "l2_shared": (bool, 0, 0),
    "midr": (int, 0x10000, 0xFFFFFFFF),
}
# Of a phone; a profile may leave out those that nobody is sure of.
_ANDROID: Kinds = dict.fromkeys(("devices", "models", "soc_models", "platforms"), (list, 0, 0))
_OPTIONAL: Kinds = {"sustained_bandwidth_gb_per_s": (float, 0.01, 10_000)}
_PLAIN = ("name", "title")
_SYSTEMS = ("android", "linux")

# MIDR_EL1 as implementer << 12 | part: Arm's own numbers, and Qualcomm's for the cores it calls Kryo.
# Sources: Linux, arch/arm64/include/asm/cputype.h; pytorch/cpuinfo, src/arm/uarch.c (Kryo).
_PARTS: Mapping[str, tuple[int, ...]] = {
    "cortex-a35": (0x41D04,),
    "cortex-a53": (0x41D03, 0x51801),
    "cortex-a55": (0x41D05, 0x51803, 0x51805),
    "cortex-a57": (0x41D07,),
    "cortex-a72": (0x41D08,),
    "cortex-a73": (0x41D09, 0x51800),
    "cortex-a75": (0x41D0A, 0x51802),
    "cortex-a76": (0x41D0B, 0x51804),
    "cortex-a77": (0x41D0D,),
    "cortex-a78": (0x41D41,),
    "cortex-a510": (0x41D46,),
    "cortex-a520": (0x41D80,),
    "cortex-a710": (0x41D47,),
    "cortex-a715": (0x41D4D,),
    "cortex-a720": (0x41D81,),
    "cortex-a725": (0x41D87,),
    "cortex-x1": (0x41D44,),
    "cortex-x2": (0x41D48,),
    "cortex-x3": (0x41D4E,),
    "cortex-x4": (0x41D82,),
    "cortex-x925": (0x41D85,),
    "exynos-m4": (0x53003,),
    "oryon": (0x51001,),
}


def profiles_folder() -> Path:
    """The shipped profiles."""
    return shipped_dir("device_profiles")


def shipped_profiles() -> tuple[str, ...]:
    """Names of the ARM devices' profiles that come with Pocketforge."""
    return tuple(sorted(path.stem for path in profiles_folder().glob("*.toml")))


def find_profile(name_or_path: str, resolve: Callable[[str], Path] = Path) -> Path:
    """The file of a shipped profile's or x86 host's name, or of a path (which `resolve` makes whole).

    Raises RecipeError.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        return resolve(name_or_path)
    if name_or_path in shipped_hosts():
        return hosts_folder() / f"{name_or_path}.toml"
    known = (*shipped_profiles(), *shipped_hosts())
    if name_or_path not in known:
        raise RecipeError(
            f"no device profile is named {name_or_path!r}{suggest(name_or_path, known)}",
            "pocketforge device profiles lists them; a path to a .toml file works too",
        )
    return profiles_folder() / f"{name_or_path}.toml"


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """An ARM device's profile by its name, or from a .toml file. Raises RecipeError with every fault found, and for an
    x86 host: nothing of one is counted, timed or estimated."""
    profile = load_any(name_or_path)
    if isinstance(profile, X86Host):
        raise RecipeError(
            f"{profile.name} is an x86 host: outputs can be compared with it, and nothing of it is counted or "
            "estimated",
            'a [[device]] with via = "emulator" compares outputs; instructions and estimates are of ARM profiles',
        )
    return profile


def load_any(name_or_path: str | Path) -> DeviceProfile | X86Host:
    """As `load_profile`, of an ARM device or an x86 host."""
    path = find_profile(name_or_path) if isinstance(name_or_path, str) else name_or_path
    try:
        check_file(path)
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"no device profile at {path}", "pocketforge device profiles lists those shipped") from None
    except UnicodeDecodeError:
        raise RecipeError(f"cannot read the device profile {path}: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read the device profile {path}: {reason}") from None
    raw = _toml(content, str(path))
    return parse_host(raw, str(path)) if is_host(raw) else _parse(raw, str(path))


def parse_profile(text: str, origin: str = "device profile") -> DeviceProfile:
    """An ARM device's profile from the text of a file. Raises RecipeError."""
    return _parse(_toml(text, origin), origin)


def _toml(text: str, origin: str) -> Table:
    try:
        check_keys(text)
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: an integer of thousands of digits is Python's own ValueError.
        raise RecipeError(f"{origin} is not valid TOML: {error}") from None


def _parse(raw: Table, origin: str) -> DeviceProfile:
    reader = _Reader()
    profile = reader.device(raw)
    if profile is None:
        faults = sorted(set(reader.faults))
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError(f"{origin} has {count}:", faults=faults)
    return profile


class _Reader(FactReader):
    """Reads a device's tables."""

    def device(self, raw: Table) -> DeviceProfile | None:
        self.keys(raw, (*_PLAIN, "cluster", "android", *_DEVICE), "")
        name, title = (self.text(raw, key, "") for key in _PLAIN)
        if name and not _NAME.fullmatch(name):
            self.faults.append(f"name: wanted letters a-z, digits and _ . - (as in a file's name), found {name!r}")
        values, sources = self.facts(raw, _DEVICE, "")
        if values.get("os", "linux") not in _SYSTEMS:
            self.faults.append(f"os.value: unknown value {values['os']!r}{suggest(values['os'], _SYSTEMS)}")
        if "features" in values:
            self._features(values["features"])
        clusters = self._clusters(raw)
        android = self._android(raw, values.get("os", "android"))
        if self.faults:
            return None
        values["features"] = tuple(values["features"])  # the facts have just the fields' names
        return DeviceProfile(name=name, title=title, clusters=clusters, sources=sources, android=android, **values)

    def _android(self, raw: Table, system: str) -> AndroidNames | None:
        table = raw.get("android")
        if "android" not in raw:
            return None
        if not isinstance(table, dict) or not table:
            self.faults.append(f"android: {mismatch('a table of ' + ', '.join(_ANDROID), table)}")
            return None
        if system != "android":
            self.faults.append(f"android: only a device whose os is android has these names, found os {system!r}")
        self.keys(table, _ANDROID, "android")
        values, sources = self.facts(table, {k: v for k, v in _ANDROID.items() if k in table}, "android")
        for key, names in values.items():
            for index, name in enumerate(names if isinstance(names, list) else []):
                path = f"android.{key}.value[{index}]"
                if type(name) is not str or not name.strip() or not name.isprintable():
                    self.faults.append(f"{path}: {mismatch('a name', name)}")
                elif name in names[:index]:
                    self.faults.append(f"{path}: {name!r} is there twice")
            if names == []:
                self.faults.append(f"android.{key}.value: wanted at least one name; leave out what is not known")
        return None if self.faults else AndroidNames(**{k: tuple(v) for k, v in values.items()}, sources=sources)

    def _clusters(self, raw: Table) -> tuple[Cluster, ...]:
        tables = raw.get("cluster", [])
        if not isinstance(tables, list) or not tables:
            self.faults.append("cluster: wanted at least one [[cluster]] table")
            return ()
        clusters = []
        for index, table in enumerate(tables):
            where = f"cluster[{index}]"
            if not isinstance(table, dict):
                self.faults.append(f"{where}: {mismatch('a table', table)}")
                continue
            self.keys(table, ("name", *_CLUSTER, *_OPTIONAL), where)
            name = self.text(table, "name", where)
            values, sources = self.facts(table, _CLUSTER, where)
            more, more_sources = self.facts(table, {k: v for k, v in _OPTIONAL.items() if k in table}, where)
            self._identity(values, where)
            if len(values) == len(_CLUSTER):
                clusters.append(Cluster(name=name, sources=sources | more_sources, **values, **more))
        names = [cluster.name for cluster in clusters]
        self.faults += [f"cluster: the name {n!r} is used twice" for n in sorted(set(names)) if names.count(n) > 1]
        return tuple(clusters)

    def _features(self, features: list[object]) -> None:
        for index, name in enumerate(features):
            if type(name) is not str:
                self.faults.append(f"features.value[{index}]: {mismatch('a string', name)}")
            elif name not in NAMES:
                self.faults.append(f"features.value[{index}]: Linux has no feature {name!r}{_near(name, NAMES)}")
            elif name in features[:index]:
                self.faults.append(f"features.value[{index}]: {name!r} is there twice")
        if "asimd" not in features:
            self.faults.append("features.value: wanted at least asimd, which every 64-bit Android and Linux device has")

    def _identity(self, values: Table, where: str) -> None:
        """A core's MIDR must be that core's: with another's, the libraries would choose another core's kernels."""
        core, midr = values.get("core", ""), values.get("midr")
        if core not in _PARTS or midr is None:
            return
        part_of = midr >> 24 << 12 | midr >> 4 & 0xFFF
        if part_of not in _PARTS[core]:
            known = " or ".join(f"{part >> 12:#x} and {part & 0xFFF:#05x}" for part in _PARTS[core])
            self.faults.append(
                f"{where}.midr.value: a {core} has implementer and part {known}, "
                f"found {part_of >> 12:#x} and {part_of & 0xFFF:#05x}"
            )


def _near(name: str, known: Iterable[str]) -> str:
    words = suggest(name, known)
    return words if "did you mean" in words else ""  # the whole list is too long to show
