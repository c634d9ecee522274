"""The class of an A64 instruction word (counts.CLASSES), by capstone's mnemonic.

Names are those of the Arm Architecture Reference Manual (DDI 0487), NEON and SVE alike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from pocketforge.devices.emulator.counts import UNKNOWN
from pocketforge.version import install

_DOT = {"sdot", "udot"}
_I8MM = {"smmla", "ummla", "usmmla", "usdot", "sudot"}
# Fused ones only: float kernels begin a sum at the bias, so a lone fmul is scaling, which is "other".
_FP_MAC = {
    *("fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub", "fmad", "fmsb", "fnmad", "fnmsb", "fnmla", "fnmls"),
    *("fmlal", "fmlal2", "fmlsl", "fmlsl2", "fmlalb", "fmlalt", "fmlslb", "fmlslt", "fcmla", "fmmla"),
    *("bfdot", "bfmmla", "bfmlalb", "bfmlalt", "bfmla", "bfmls", "bfmlslb", "bfmlslt"),
}
# With the multiplies: integer kernels begin a sum with a product (smull, then smlal), and mul is madd's alias.
# Not sqdmulh and sqrdmulh: they rescale sums, and are "other".
_INT_MAC = {
    *("madd", "msub", "mul", "mneg", "mla", "mls", "mad", "msb", "cmla", "cdot", "smulh", "umulh"),
    *(sign + name for sign in "su" for name in ("maddl", "msubl", "mull", "mnegl", "mull2", "mullb", "mullt")),
    *(sign + "ml" + op + "l" + half for sign in "su" for op in "as" for half in ("", "2", "b", "t")),
    *("sqdml" + op + "l" + half for op in "as" for half in ("", "2", "b", "t", "bt")),
    *("sqdmull", "sqdmull2", "sqdmullb", "sqdmullt", "sqrdmlah", "sqrdmlsh", "sqrdcmlah"),
}
_BRANCH = {
    *("b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz", "bc", "svc"),
    *("retaa", "retab", "braa", "brab", "braaz", "brabz", "blraa", "blrab", "blraaz", "blrabz"),
}
# ld…, st… are all loads and stores of NEON, SVE, SME and the atomics (ldadd reads, writes and returns: a load).
_LOAD = ("ld", "prf", "cas", "swp")
_STORE = "st"


def classify(word: int) -> str:
    """The class of one A64 word: one of CLASSES, or UNKNOWN. Raises ToolMissing when capstone is not installed.

    Prefetches are loads (they take a load's slot); `dc zva`, which clears a line, is a store.
    """
    known = _known()
    class_ = known.get(word)
    if class_ is None:
        class_ = known[word] = _kind(*decode(word))
    return class_


def decode(word: int) -> tuple[str, str]:
    """capstone's mnemonic and operands, both empty for a word that it does not know."""
    for _, _, mnemonic, operands in _disassembler().disasm_lite(word.to_bytes(4, "little"), 0):
        return mnemonic, operands
    return "", ""


def _kind(mnemonic: str, operands: str) -> str:
    if not mnemonic:
        return UNKNOWN
    base = mnemonic.partition(".")[0]
    for kind, names in (("dot", _DOT), ("i8mm", _I8MM), ("fp_mac", _FP_MAC), ("int_mac", _INT_MAC)):
        if base in names:
            return kind
    if base in _BRANCH:
        return "branch"
    if base.startswith(_LOAD):
        return "load"
    if base.startswith(_STORE) or (base == "dc" and operands.startswith("zva")):
        return "store"
    return "other"


@functools.cache
def _known() -> dict[int, str]:
    """A run has some ten thousand different words; each is decoded once."""
    return {}


@functools.cache
def _disassembler() -> Any:
    from pocketforge.errors import ToolMissing

    try:
        import capstone
    except ImportError:
        raise ToolMissing("reading instructions needs capstone, which is not installed", install("emulator")) from None
    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)


def by_class(words: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Executions by class, from pairs of (word, executions)."""
    counts: dict[str, int] = {}
    for word, executions in words:
        kind = classify(word)
        counts[kind] = counts.get(kind, 0) + executions
    return counts
