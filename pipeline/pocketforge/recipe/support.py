"""Which runtime realises which scheme and backend: natively, emulated, or not at all, and why. Read by the recipe
(which refuses), by the docs (which print it as tables) and by tests (which try every entry)."""

from __future__ import annotations

from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import RUNTIMES, SchemeSupport


def support(runtime: str, quantize: Quantize) -> SchemeSupport:
    """What `quantize` is in `runtime`'s files: the scheme's row says it, or else the runtime's (a plug-in's)."""
    of_runtime = RUNTIMES[runtime].schemes
    known = quantize.info.support.get(runtime) or of_runtime.get(quantize.scheme)
    if known is None:
        nearest = ", ".join(of_runtime) or "another runtime"
        known = SchemeSupport("refused", "neither the scheme's row nor the runtime's has an answer for it", nearest)
    return known


def refusal(runtime: str, quantize: Quantize) -> str:
    """Why a target of `runtime` cannot have `quantize`, and what is nearest; empty when it can."""
    known = support(runtime, quantize)
    if known.how != "refused":
        dynamic = [each.modules for each in quantize.overrides if each.scheme == "dynamic_int8"]
        if quantize.is_static and dynamic and not RUNTIMES[runtime].mixes_ranges:
            able = " or ".join(name for name, info in RUNTIMES.usable().items() if info.mixes_ranges)
            return (
                f"overrides of dynamic_int8 in a static scheme are for runtime {able}: the {runtime} exporter "
                f"writes one or the other; nearest: scheme fp32 for {', '.join(dynamic)}"
            )
        return ""
    return f"scheme {quantize.scheme} is refused for runtime {runtime}: {known.why}; nearest: {known.nearest}"
