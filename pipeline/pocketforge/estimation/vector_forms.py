"""Instructions on vector registers: their group, and what they do with their destination.

Two tables by mnemonic: `_GROUPS` says which cost of the core tables an instruction has, `_DESTINATIONS` what it needs
of the register that it writes. Both after the instructions' descriptions in the A64 reference manual (Arm DDI 0487).
Copies between the register files have one mnemonic for several costs: `_copied` tells them apart by their operands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pocketforge.estimation.instruction import UNKNOWN, Instruction
from pocketforge.estimation.operands import by_name, names, registers

# Mnemonics of every group, without the "2" of the upper-half forms. A vector instruction in no list is unknown, and
# counted as such.
_GROUPS = by_name(
    {
        "fp_mac": "fmla fmls fmlal fmlsl fmadd fmsub fnmadd fnmsub fcmla",
        "fp_mul": "fmul fnmul fmulx",
        "fp_add": "fadd fsub fabd faddp fcadd",
        "fp_minmax": "fmax fmin fmaxnm fminnm fmaxp fminp fmaxnmp fminnmp",
        "fp_simple": "fabs fneg fcmeq fcmge fcmgt fcmle fcmlt facge facgt fcsel",
        "fp_compare": "fcmp fcmpe fccmp fccmpe",
        "fp_convert": "scvtf ucvtf fcvt fcvtl fcvtn fcvtxn fcvtns fcvtnu fcvtas fcvtau fcvtms fcvtmu fcvtps fcvtpu "
        "fcvtzs fcvtzu frinta frinti frintm frintn frintp frintx frintz",
        "fp_divide": "fdiv",
        "fp_sqrt": "fsqrt",
        "fp_estimate": "frecpe frsqrte frecpx urecpe ursqrte",
        "fp_step": "frecps frsqrts",
        "reduce": "addv saddlv uaddlv smaxv sminv umaxv uminv fmaxv fminv fmaxnmv fminnmv",
        "int_add": "add sub addp saddl uaddl saddw uaddw ssubl usubl ssubw usubw saddlp uaddlp neg abs sabd uabd sabdl "
        "uabdl shadd uhadd shsub uhsub srhadd urhadd addhn subhn raddhn rsubhn cmeq cmge cmgt cmhi cmhs cmle cmlt "
        "cmtst smax smin umax umin smaxp sminp umaxp uminp sqadd uqadd sqsub uqsub suqadd usqadd sqabs sqneg cnt clz "
        "cls rbit",
        "int_pair_acc": "sadalp uadalp saba uaba sabal uabal",
        "int_mul": "mul sqdmulh sqrdmulh pmul sqrdmlah sqrdmlsh mla mls",
        "int_mul_long": "smull umull sqdmull pmull smlal umlal smlsl umlsl sqdmlal sqdmlsl",
        "dot": "sdot udot usdot sudot bfdot",
        "matmul": "smmla ummla usmmla bfmmla",
        "shift": "shl sshr ushr sshll ushll sxtl uxtl shll shrn sri sli sshl ushl",
        "shift_round": "srshr urshr rshrn srshl urshl sqrshl uqrshl sqshl uqshl sqshlu sqshrn uqshrn sqrshrn uqrshrn "
        "sqshrun sqrshrun ssra usra srsra ursra",
        "narrow_sat": "sqxtn uqxtn sqxtun",
        "logic": "and orr eor bic orn mvn not movi mvni bsl bit bif fmov mov",
        "permute": "zip1 zip2 uzp1 uzp2 trn1 trn2 ext rev16 rev32 rev64 dup xtn",
        "table": "tbl tbx",
        "insert_gpr": "ins",
        "move_gpr": "umov smov",
    }
)

Destination = Literal["written", "accumulated", "addend", "kept", "none"]
# What an instruction needs of the register that it writes. "written", in no list: nothing, all of it is new.
_DESTINATIONS: dict[Destination, str] = {
    # Added to, and needed late: a core may forward the sum of one to the next of its group.
    "accumulated": "fmla fmls fmlal fmlsl fcmla mla mls smlal umlal smlsl umlsl sqdmlal sqdmlsl sqrdmlah sqrdmlsh sdot "
    "udot usdot sudot bfdot smmla ummla usmmla bfmmla sadalp uadalp saba uaba sabal uabal",
    # The same of the scalar forms, whose addend is the fourth operand.
    "addend": "fmadd fmsub fnmadd fnmsub",
    # Some bits stay as they are, or the old value is added without forwarding: it is read as any other source.
    "kept": "sri sli bsl bit bif ins tbx ssra usra srsra ursra",
    # There is none: only flags are written.
    "none": "fcmp fcmpe fccmp fccmpe",
}
_DESTINATION: dict[str, Destination] = {word: what for what, words in _DESTINATIONS.items() for word in words.split()}

# Their upper-half forms (xtn2 …) write the upper half of the destination and keep its lower one. Upper-half forms that
# widen (smull2 …) read the upper half of a *source*: they write all of their destination.
_NARROWING = names(
    "xtn sqxtn uqxtn sqxtun addhn subhn raddhn rsubhn fcvtn fcvtxn shrn rshrn sqshrn uqshrn sqrshrn uqrshrn sqshrun "
    "sqrshrun"
)
_FROM_GENERAL = names("mov fmov dup ins")
_ONE_LANE = names("mov ins")


@dataclass(frozen=True, slots=True)
class _Form:
    """What the tables say of one mnemonic."""

    group: str
    destination: Destination
    narrowing: bool


_FORMS = {name: _Form(group, _DESTINATION.get(name, "written"), name in _NARROWING) for name, group in _GROUPS.items()}
_UNLISTED = _Form(UNKNOWN, "written", narrowing=False)


def plain_name(mnemonic: str) -> str:
    """Without the "2" of an upper-half form, where there is such a form."""
    return mnemonic.rstrip("2") if mnemonic[:-1] in _FORMS else mnemonic


def vector(name: str, operands: str, *, upper: bool = False) -> Instruction:
    """An instruction with a vector register among its operands, but for loads and stores; flags are the caller's.

    name: as in the tables; upper: it is the upper-half form.
    """
    form = _FORMS.get(name, _UNLISTED)
    first, _, rest = operands.partition(",")
    named = registers(operands)
    writes, reads, accumulator = named[:1], named[1:], -1
    if form.destination == "accumulated":
        accumulator = named[0]
    elif form.destination == "addend" and len(named) == 4:
        accumulator, reads = named[3], named[1:3]
    elif form.destination == "none":
        writes, reads = (), named
    narrowed_above = upper and form.narrowing and re.match(r"v\d+\.(16b|8h|4s)$", first)
    if form.destination == "kept" or _is_lane(name, first) or narrowed_above:
        reads = (*reads, named[0])
    return Instruction(
        _copied(name, first, rest) or form.group,
        reads,
        writes,
        accumulator,
        wide=upper or bool(re.search(r"\.(16b|8h|4s|2d|1q)", operands)),
        # Of a look-up, the vectors of its table: tbl v0.16b, {v1.16b, v2.16b}, v3.16b.
        registers=len(registers(operands[operands.find("{") : operands.find("}")])) if "{" in operands else 1,
        text=f"{name}{'2' if upper else ''} {operands}",
    )


def _is_lane(name: str, first: str) -> bool:
    """Whether one lane is written, v0.s[1], and the others stay."""
    return name in _ONE_LANE and "[" in first


def _copied(name: str, first: str, rest: str) -> str:
    """The group of a copy between registers or lanes, by where from and where to; "" for what is no such copy."""
    if first.strip()[0] in "wx":
        return "move_gpr"
    if name in _FROM_GENERAL and re.search(r"\b[wx](\d+|zr)\b", rest):
        return "insert_gpr"
    if name in ("scvtf", "ucvtf") and re.search(r"\b[wx]\d+\b", rest):  # converted on the way
        return "insert_gpr"
    if _is_lane(name, first) or (name == "mov" and "[" in rest):
        return "permute"
    if name == "fmov" and "v" not in first and not rest.strip().startswith("#"):  # d0, d1; a number is "logic", as movi
        return "fp_simple"
    return ""
