"""What a row names by `module:object`, and whether it is there. Nothing heavy is imported for the answer."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from pkgutil import resolve_name
from typing import TypeAlias

from pocketforge.recipe import Metric
from pocketforge.recipe.schemes import SchemeInfo
from pocketforge.registries import DeviceInfo, RuntimeInfo, SourceInfo

Info: TypeAlias = RuntimeInfo | SchemeInfo | DeviceInfo | SourceInfo | Metric

# What costs nothing to import; of the others the source is read.
_LIGHT = ("entry", "steps", "results", "facts", "taken_by")
# What has to be in a module that is named alone, by the part that it is.
_NEEDED = {
    "exporter": ("export",),
    "session": ("prepare", "open_session"),
    "plain session": ("prepare", "open_session"),
    "parser": ("parse",),
    "traffic": ("read",),
    "tap": ("tap_file",),
    "lowered": ("lower", "with_outputs"),
    "runner": ("run",),
    "stage": ("run",),
    "source": ("files", "open_place"),
}


def parts_of(info: Info) -> Mapping[str, str]:
    """What a row names: which part → `module` or `module:object`. Sessions of ours have no dot."""
    parts: dict[str, str] = {}
    if isinstance(info, RuntimeInfo):
        parts |= {"exporter": info.module, "session": info.session if "." in info.session else ""}
        for each in info.formats:
            parts |= {f"{each.suffix}: parser": each.parser, f"{each.suffix}: traffic": each.traffic}
        if info.why is not None:
            plain = info.why.plain.session if info.why.plain else ""
            parts |= {"why: tap": info.why.tap, "why: lowered": info.why.lowered}
            parts |= {"why: plain session": plain if "." in plain else ""}
    elif isinstance(info, SchemeInfo):
        parts["make"] = info.make
    elif isinstance(info, DeviceInfo):
        for name in ("entry", "runner", "steps", "results", "facts", "tables", "bench", "bench_table"):
            parts[name] = getattr(info, name)
        parts |= {f"{name}: stage": stage.module for name, stage in info.stages.items()}
    elif isinstance(info, SourceInfo):
        parts["source"] = info.module
    else:
        parts["taken_by"] = info.taken_by
    return {name: place for name, place in parts.items() if place}


def fault_of_part(part: str, place: str) -> str:
    """Why a part cannot be what a row says, in words; empty when it can. Raises what importing a light one raises."""
    module, _, name = place.partition(":")
    spec = spec_of(module)
    if spec is None:
        return "and there is no such module"
    if part in _LIGHT:
        return "" if callable(resolve_name(place)) else "which cannot be called"
    wanted = (name,) if name else _NEEDED[part.rpartition(": ")[2]]
    missing = [each for each in wanted if not _binds(spec, each.partition(".")[0])]
    return f"and {module} has no {' and no '.join(missing)}" if missing else ""


def spec_of(module: str) -> ModuleSpec | None:
    """Where a module is, without importing it (but what it is in)."""
    try:
        return importlib.util.find_spec(module)
    except ModuleNotFoundError:  # nor what it is in
        return None


def _binds(spec: ModuleSpec, name: str) -> bool:
    """Whether a module's source makes a name, so far as that can be read: what is no source, or takes names from where
    nobody sees them, may have any."""
    if not (spec.origin and spec.origin.endswith(".py")):
        return True
    bound: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
    return bool(bound & {name, "*", "__getattr__"})
