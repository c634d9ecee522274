"""Weights in 6 bits, a byte each in the file; and the same by somebody who forgot to round them."""

from __future__ import annotations

import dataclasses

from pocketforge.recipe import default_limits
from pocketforge.recipe.schemes import SCHEMES

SIX_BITS = dataclasses.replace(
    SCHEMES["weight_only_int8"],
    bits=6,
    numerics="weights in 6 bits ({granularity}), all else computed in float32",
    limits=default_limits.FEW_BITS,
)
FORGETFUL = dataclasses.replace(SIX_BITS, make="pocketforge_six_bits.make:forget")
