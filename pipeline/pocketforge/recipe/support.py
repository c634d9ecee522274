"""Which runtime realises which scheme and backend: natively, emulated, or not at all, and why. Read by the recipe
(which refuses), by the docs (which print it as tables) and by tests (which try every entry)."""

from __future__ import annotations

from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.schemes import SCHEMES, Support


def support(runtime: str, quantize: Quantize) -> Support:
    """What `quantize` is in `runtime`'s files. A runtime that nobody has an answer for is refused by its name."""
    known = SCHEMES[quantize.scheme].support.get(runtime)
    return known or Support("refused", f"nobody has said what {runtime} makes of it", "scheme fp32")


def refusal(runtime: str, quantize: Quantize) -> str:
    """Why a target of `runtime` cannot have `quantize`, and what is nearest; empty when it can."""
    found = support(runtime, quantize)
    if found.how != "refused":
        dynamic = [each.modules for each in quantize.overrides if each.scheme == "dynamic_int8"]
        if quantize.is_static and dynamic and runtime != "executorch":
            return (
                f"overrides of dynamic_int8 in a static scheme are for runtime executorch: the {runtime} exporter "
                f"writes one or the other; nearest: scheme fp32 for {', '.join(dynamic)}"
            )
        return ""
    return f"scheme {quantize.scheme} is refused for runtime {runtime}: {found.why}; nearest: {found.nearest}"
