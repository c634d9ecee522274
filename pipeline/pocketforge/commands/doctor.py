"""What `pocketforge doctor` looks at: Python, the toolchains (imported, each in its own process), the cache.

A library of another version than the pinned one is ok where it is in the range that `nox -s compat` runs
(facts/tested.py); outside of it, it is neither missing nor ok: `untested`.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketforge import plugins
from pocketforge.devices import phones
from pocketforge.devices.emulator import parts, provision
from pocketforge.devices.environments import ENVIRONMENTS
from pocketforge.devices.kernels import kernels_here
from pocketforge.devices.x86 import qemu as x86_qemu
from pocketforge.errors import DeviceUnavailable, StoreError, describe_exit
from pocketforge.facts import pins
from pocketforge.facts.gather import host_identity
from pocketforge.facts.tested import TESTED
from pocketforge.facts.versions import COMPRESS_LIBRARIES, METRICS_LIBRARIES, installed_versions, version_of
from pocketforge.recipe.backends import BACKENDS
from pocketforge.registries import RUNTIMES
from pocketforge.run.store import Store
from pocketforge.version import install

# What a recipe may ask for, the module by which it is asked, and how to get it.
_OPTIONAL = {
    # Built for one torch: with another build of it (CPU, CUDA) it installs and does not import.
    "torchvision": ('definition = "torchvision:NAME"', "torchvision.models", ", from where torch came from"),
    "timm": ('definition = "timm:NAME"', "timm", " (it needs torchvision)"),
    "transformers": ('definition = "transformers:DIR"', "transformers", ""),
    "soundfile": ("sound in data sources", "soundfile", ""),
    "PyYAML": ('source = "yolo:DIR"', "yaml", ""),
    "pyarrow": ('source = "parquet:FILE"', "pyarrow.parquet", ""),
    "datasets": ('source = "huggingface:DIR"', "datasets", ""),
    "cryptography": ("sign and verify-release --key", "cryptography", ""),
    "zstandard": ("release patch and apply, and zstd in size", "zstandard", ""),
    "brotli": ("brotli in size", "brotli", ""),
}
_COMPRESS_MODULES = ("torch_pruning", "accelerate", "torch.utils.tensorboard", "matplotlib")
# Not torchmetrics itself: imported as it is, it imports whatever else is installed (accuracy/library.py).
_METRICS_MODULES = ("lightning_utilities", "faster_coco_eval")
_EMULATOR_MODULES = ("capstone", "elftools.elf.elffile")


@dataclass(frozen=True, slots=True)
class Library:
    """One library of a row.

    Attributes:
        name: As pip knows it.
        wanted: The version that was tested; empty where any will do.
        found: The version that is installed, or "none".
        state: ok, missing, `tested` (not the recommended version, but in the tested range), or how `pins.standing`
            calls it.
    """

    name: str
    wanted: str
    found: str
    state: str

    @property
    def words(self) -> str:
        """What a row says of it."""
        if self.state == "tested":
            return f"{self.name} {self.found} (tested; recommended: {self.wanted.removeprefix('==')})"
        if self.state != "ok":
            return f"{self.name}: wanted {self.wanted.removeprefix('==')}, found {self.found} ({self.state})"
        return f"{self.name} {self.found}" + (" (pinned)" if self.wanted.startswith("==") else "")


@dataclass(frozen=True, slots=True)
class Row:
    """What was looked at.

    Attributes:
        name: In a word or two.
        state: ok; missing (or installed and broken); untested: another version than the one that was tested, which may
            work; optional: absent, and only needed on request.
        found: What is there, in words.
        get: How to get it; empty where nothing is to be got.
        libraries: That it consists of.
    """

    name: str
    state: str
    found: str
    get: str = ""
    libraries: tuple[Library, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Every field by its name."""
        return asdict(self)


def examine(cache: Path, *, imports: bool) -> Iterator[Row]:
    """Each row comes as soon as it is known: importing a toolchain takes a while."""
    runtimes = RUNTIMES.usable()  # of what is broken, more is said below
    look = Look(installed_versions(), pins.required(), imports)
    yield Row("python", "ok" if sys.version_info >= (3, 11) else "missing", platform.python_version(), "Python 3.11")
    yield Row("host", "ok", f"{host_identity()}, {kernels_here()} kernels")
    yield look.at("torch", ["torch"], ["torch"], look.pip(["torch"]))
    if imports and look.versions["torch"] != "none":
        yield _engines()
    for name, runtime in runtimes.items():
        needed = list(dict.fromkeys((*runtime.export_libraries, *runtime.run_libraries)))
        yield look.at(name, needed, [*runtime.preload, runtime.module], runtime.install)
    use = "for [[compress]] and studies"
    yield look.at("compress", COMPRESS_LIBRARIES, _COMPRESS_MODULES, install("compress"), use)
    use = "for [[output]] of images, sound, text and boxes"
    yield look.at("metrics", METRICS_LIBRARIES, _METRICS_MODULES, install("metrics"), use)
    yield from _plugins()
    without = {"tflite-runtime": "verify will say 'not known' for it", "mediapipe": "targets with consumers need it"}
    without["web"] = "targets with web consumers need it"
    for name, each in ENVIRONMENTS.items():
        ready = each.ready
        found = f"{each.version} in {each.folder}" if ready else f"not set up: {without[name]}"
        yield Row(name, "ok" if ready else "optional", found, f"pocketforge device setup {name}")
    for row in provision.examine():
        of_packages = row[0] == "emulator: packages" and row[1] == "ok"
        yield look.at(row[0], parts.PACKAGES, _EMULATOR_MODULES, row[3]) if of_packages else Row(*row)
    yield from (Row(*row) for row in x86_qemu.examine())
    yield _adb()
    for name, (use, module, how) in _OPTIONAL.items():
        yield look.at(name, [name], [module], f"pip install {name}{how}", f"only for {use}")
    yield _cache(cache)


@dataclass(frozen=True, slots=True)
class Look:
    """How libraries are looked at.

    Attributes:
        versions: Library → what is installed, or "none".
        wanted: Library → the version that was tested, as pip writes it.
        imports: Whether to try importing them.
    """

    versions: Mapping[str, str]
    wanted: Mapping[str, str]
    imports: bool

    def at(self, name: str, libraries: Sequence[str], modules: Sequence[str], get: str, use: str = "") -> Row:
        """The row of some libraries that are used together. use: what for, where a build does without."""
        rows = tuple(self._library(library) for library in libraries)
        absent = [each.name for each in rows if each.state == "missing"]
        if absent:
            words = f"not installed: {', '.join(absent)}{'; ' + use if use else ''}"
            return Row(name, "optional" if use else "missing", words, get, rows)
        off = [each.name for each in rows if each.state not in ("ok", "tested")]
        words = ("; " if off else ", ").join(each.words for each in rows)
        get = self.pip(off) if off else get
        trouble = import_trouble(list(modules)) if self.imports else ""
        if trouble:
            return Row(name, "missing", f"{trouble} ({words})", get, rows)
        if not self.imports:
            words = f"{words}; not imported"  # whether it works is not known
        return Row(name, "untested" if off else "ok", words, get, rows)

    def pip(self, libraries: Sequence[str]) -> str:
        """The command that installs what was tested of them."""
        return "pip install " + " ".join(f"'{name}{self.wanted.get(pins.normal(name), '')}'" for name in libraries)

    def _library(self, name: str) -> Library:
        installed = self.versions.get(name) or version_of(name)
        tested = self.wanted.get(pins.normal(name), "")
        state = "missing" if installed == "none" else pins.standing(installed, tested) or "ok"
        known = TESTED.get(pins.normal(name))
        if known and state not in ("ok", "missing") and known.standing(installed) == "tested":
            state = "tested"
        return Library(name, tested, installed, state)


def _plugins() -> Iterator[Row]:
    """A row for each installed package that adds to our registries."""
    by_package: dict[tuple[str, str], list[tuple[plugins.Plugin, str]]] = {}
    for plugin, fault in plugins.examine():
        if isinstance(plugin, str):
            yield Row(f"plug-in {plugin}", "missing", fault, f"pip install --force-reinstall {plugin}")
        else:
            by_package.setdefault((plugin.distribution, plugin.version), []).append((plugin, fault))
    for (name, version), rows in by_package.items():
        faults = [fault for _, fault in rows if fault]
        adds = f"{version}: {', '.join(f'{plugin.group} {plugin.name}' for plugin, _ in rows)}"
        get = f"pip install --upgrade {name}, or pip uninstall {name}"
        yield Row(f"plug-in {name}", "missing" if faults else "ok", "; ".join(faults) or adds, get)


def _adb() -> Row:
    try:
        return Row("adb", "ok", phones.adb_version())
    except DeviceUnavailable as error:
        return Row("adb", "optional", f"{error.message}; only for phones", error.hint)


# Libraries wrap an import's error in advice of their own: the innermost is the cause, and stands last.
_IMPORT = """
import importlib, sys, traceback
from pocketforge.errors import first_line
try:
    for name in sys.argv[1:]:
        importlib.import_module(name)
except BaseException as error:
    traceback.print_exc()
    sys.exit("\\n" + first_line(error))
"""


def import_trouble(modules: list[str]) -> str:
    """Import modules in a new process; the innermost cause of what went wrong, or nothing."""
    done = _python(_IMPORT, *modules)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    if done.returncode < 0:  # whatever it said was not why
        lines = []
    return f"installed, but does not import: {lines[-1] if lines else describe_exit(done.returncode)}"


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds modules where a stage's does: not in the working folder."""
    code = f"from pocketforge.folders import leave_working_folder; leave_working_folder()\n{code}"
    argv = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)


def _engines() -> Row:
    """torch's own quantized engines: what backends fbgemm and qnnpack are compared with, never what is shipped."""
    code = "import torch; print(*torch.backends.quantized.supported_engines)"
    done = _python(code)
    engines = [name for name in done.stdout.split() if name != "none"]
    if not engines:
        return Row("torch engines", "optional", "none: backends have no reference", "another build of torch")
    backends = ", ".join(name for name in BACKENDS if name in engines)
    words = f"{', '.join(engines)}; reference of backends {backends}"
    return Row("torch engines", "ok", words, "another build of torch")


def _cache(cache: Path) -> Row:
    try:
        refused = Store(cache).read_only
    except StoreError as error:
        return Row("cache", "missing", error.message, error.hint)
    if refused:
        return Row("cache", "ok", f"{refused}: it is read, and what a command makes is gone when it ends")
    free = shutil.disk_usage(cache).free
    return Row("cache", "ok", f"{cache}, {free:,} bytes free")
