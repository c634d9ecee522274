"""Any `quantize = {…}` that a runtime's target may have, for property tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from hypothesis import strategies as st

from pocketforge.recipe.backends import BACKENDS
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.quantize import Calibration, LayerScheme, Override, Quantize
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.support import refusal


@st.composite
def quantizations(draw: Callable[[st.SearchStrategy[Any]], Any], runtime: str) -> Quantize:
    scheme = draw(st.sampled_from([s for s in SCHEMES.ours if not refusal(runtime, Quantize(s))]))
    info = SCHEMES[scheme]
    keys: dict[str, Any] = {}
    if "backend" in info.keys:
        keys["backend"] = draw(st.sampled_from(sorted(BACKENDS)))
        keys["weight_bits"] = draw(st.integers(2, 8))
        patterns = st.text("abc.*", min_size=1, max_size=4)
        dynamic = runtime == "executorch" and not info.is_trained
        schemes = [s for s in get_args(LayerScheme) if dynamic or s != "dynamic_int8"]
        overrides = st.builds(Override, patterns, st.sampled_from(schemes))
        keys["overrides"] = draw(st.lists(overrides, max_size=2).map(tuple))
    if "per_channel" in info.keys:
        own = [None, True, False] if keys.get("backend", "xnnpack") == "xnnpack" else [None]
        keys["per_channel"] = draw(st.sampled_from(own))
    if "calibration" in info.keys:
        keys["calibration"] = draw(st.sampled_from(get_args(Calibration)))
        keys["calibration_samples"] = draw(st.none() | st.integers(8, 100))
    if "group_size" in info.keys:
        keys["group_size"] = draw(st.sampled_from([16, 32, 256]))
    if "entries" in info.keys:
        keys["entries"] = draw(st.integers(2, 256))
    if "freeze_observers" in info.keys:
        keys["finetune"] = draw(st.none() | st.builds(Finetune, epochs=st.integers(1, 3)))
        keys["freeze_observers"] = draw(st.floats(0, 1))
    if "max_accuracy_drop" in info.keys:
        keys["max_accuracy_drop"] = draw(st.floats(0, 0.5))
    return Quantize(scheme, **keys)
