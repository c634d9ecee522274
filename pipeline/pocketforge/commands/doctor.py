"""What `pocketforge doctor` looks at: Python, the toolchains (imported, each in its own process), the cache."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pocketforge.devices import legacy, phones
from pocketforge.devices.emulator import provision
from pocketforge.devices.kernels import kernels_here
from pocketforge.devices.x86 import qemu as x86_qemu
from pocketforge.errors import DeviceUnavailable, StoreError
from pocketforge.facts.gather import COMPRESS_LIBRARIES, host_identity, installed_versions
from pocketforge.recipe.backends import BACKENDS
from pocketforge.registries import RUNTIMES
from pocketforge.run.store import Store

_OPTIONAL = {
    "torchvision": 'definition = "torchvision:NAME"',
    "timm": 'definition = "timm:NAME"',
    "transformers": 'definition = "transformers:DIR"',
}


def examine(cache: Path, *, imports: bool) -> Iterator[dict[str, str]]:
    """Rows of name, state (ok, missing, optional: absent but only needed on request), what was found, how to get it.

    Each comes as soon as it is known: importing a toolchain takes a while.
    """
    versions = installed_versions()
    yield _row("python", "ok" if sys.version_info >= (3, 11) else "missing", platform.python_version(), "Python 3.11")
    yield _row("host", "ok", f"{host_identity()}, {kernels_here()} kernels")
    yield _package("torch", versions["torch"], "pip install 'torch==2.13.0'", ["torch"], imports)
    if imports and versions["torch"] != "none":
        yield _engines()
    for name, runtime in RUNTIMES.items():
        needed = dict.fromkeys((*runtime.export_libraries, *runtime.run_libraries))
        absent = [n for n in needed if versions[n] == "none"]
        get = f"pip install 'pocketforge[{runtime.extra}]'"
        if absent:
            yield _row(name, "missing", f"not installed: {', '.join(absent)}", get)
            continue
        found = ", ".join(f"{n} {versions[n]}" for n in needed)
        trouble = import_trouble([*runtime.preload, runtime.module]) if imports else ""
        yield _row(name, "missing" if trouble else "ok", trouble or found, get)
    absent = [n for n in COMPRESS_LIBRARIES if versions[n] == "none"]
    found = ", ".join(f"{n} {versions[n]}" for n in COMPRESS_LIBRARIES)
    if absent:
        found = f"not installed: {', '.join(absent)}; for [[compress]] and studies"
    yield _row("compress", "optional" if absent else "ok", found, "pip install 'pocketforge[compress]'")
    ready = legacy.legacy_python()
    yield _row(
        "tflite-runtime",
        "ok" if ready else "optional",
        f"{legacy.VERSION} in {legacy.legacy_folder()}" if ready else "not set up: verify will say 'not known' for it",
        "pocketforge device setup tflite-runtime",
    )
    yield from (_row(*row) for row in provision.examine())
    yield from (_row(*row) for row in x86_qemu.examine())
    yield _adb()
    for name, use in _OPTIONAL.items():
        state = "optional" if versions[name] == "none" else "ok"
        found = versions[name] if state == "ok" else f"not installed; only for {use}"
        yield _row(name, state, found, f"pip install {name}")
    yield _cache(cache)


def _adb() -> dict[str, str]:
    try:
        return _row("adb", "ok", phones.adb_version())
    except DeviceUnavailable as error:
        return _row("adb", "optional", f"{error.message}; only for phones", error.hint)


def _row(name: str, state: str, found: str, get: str = "") -> dict[str, str]:
    return {"name": name, "state": state, "found": found, "get": get}


def _package(name: str, version: str, get: str, modules: list[str], imports: bool) -> dict[str, str]:
    if version == "none":
        return _row(name, "missing", "not installed", get)
    trouble = import_trouble(modules) if imports else ""
    return _row(name, "missing" if trouble else "ok", trouble or version, get)


def import_trouble(modules: list[str]) -> str:
    """Import modules in a new process; the last line of what went wrong, or nothing."""
    done = _python("import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)", *modules)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return f"installed, but does not import: {lines[-1] if lines else f'exit code {done.returncode}'}"


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds modules where a stage's does: not in the working folder."""
    code = f"from pocketforge.folders import leave_working_folder; leave_working_folder()\n{code}"
    argv = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)


def _engines() -> dict[str, str]:
    """torch's own quantized engines: what backends fbgemm and qnnpack are compared with, never what is shipped."""
    code = "import torch; print(*torch.backends.quantized.supported_engines)"
    done = _python(code)
    found = [name for name in done.stdout.split() if name != "none"]
    here = [name for name in BACKENDS if name in found]
    said = (
        f"{', '.join(found)}; reference of backends {', '.join(here)}" if found else "none: backends have no reference"
    )
    return _row("torch engines", "ok" if found else "optional", said, "another build of torch")


def _cache(cache: Path) -> dict[str, str]:
    try:
        Store(cache)
    except StoreError as error:
        return _row("cache", "missing", error.message, error.hint)
    free = shutil.disk_usage(cache).free
    return _row("cache", "ok", f"{cache}, {free:,} bytes free")
