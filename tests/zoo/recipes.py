"""A net's recipe, as a user would write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zoo.entries import Net

HERE = Path(__file__).resolve().parent
MODEL = """
[model]
definition = "{definition}"
args = {{ name = "{name}" }}
weights = "{weights}"
"""
TARGET = """
[[target]]
name = "{runtime}_{scheme}"
runtime = "{runtime}"
quantize = {{ scheme = "{scheme}" }}
"""
# Timed as briefly as can be: nothing here says how fast this machine is.
HOST = """
[[device]]
name = "host"
processes = 3
spacing_seconds = 0.0
min_samples = 1
min_seconds = 0.0
warmup = 0
"""
PHONE = """
[[device]]
via = "emulator"
profile = "pixel4"
eval_samples = 0
"""


def recipe(net: Net, weights: Path, lanes: Iterable[tuple[str, str]], *, count: bool = False) -> str:
    """count: on the emulated phone."""
    text = f'name = "{net.name}"\n{net.task.top}'
    text += MODEL.format(definition=HERE / "definition.py", name=net.name, weights=weights.resolve())
    text += net.task.recipe.replace("{size}", str(net.size)).replace("{folder}", str(HERE))
    text += "".join(TARGET.format(runtime=runtime, scheme=scheme) for runtime, scheme in lanes)
    return text + (PHONE if count else HOST)
