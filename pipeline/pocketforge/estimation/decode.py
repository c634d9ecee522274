"""A64 instruction words as what a pipeline sees: a group, registers read and written, bytes moved, a branch's target.

capstone only disassembles here. Its own access lists (5.0) miss the operands of `sdot` and the read of a `sqxtn2`'s
destination, so reads and writes are taken from the text of the operands by the rules of the A64 reference manual
(Arm DDI 0487): the first operand is written, stores and compares write none, and accumulating or inserting
instructions also read it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

FLAGS = 64  # register numbers: 0…30 x, 31 sp, 32…63 v, 64 the flags

UNKNOWN = "unknown"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `wide` is its Q form (128 bits); `registers` counts the vectors that an ld1…st4 moves."""

    group: str
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    accumulator: int = -1  # a register both read late and written: producers of the same group forward to it
    base: int = -1  # an address register written back
    wide: bool = False
    registers: int = 1
    load_bytes: int = 0
    store_bytes: int = 0
    branch: int | None = None  # a direct branch's distance from this instruction, in bytes
    text: str = ""


# Mnemonics of every group, without the "2" of the upper-half forms. What is in no list and touches no vector register
# is "alu"; a vector instruction in no list is unknown, and counted as such.
_VECTOR_GROUPS: dict[str, str] = {
    "fp_mac": "fmla fmls fmlal fmlsl fmadd fmsub fnmadd fnmsub fcmla",
    "fp_mul": "fmul fnmul fmulx",
    "fp_add": "fadd fsub fabd faddp fcadd",
    "fp_minmax": "fmax fmin fmaxnm fminnm fmaxp fminp fmaxnmp fminnmp",
    "fp_simple": "fabs fneg fcmeq fcmge fcmgt fcmle fcmlt facge facgt fcsel",
    "fp_compare": "fcmp fcmpe fccmp fccmpe",
    "fp_convert": "scvtf ucvtf fcvt fcvtl fcvtn fcvtxn fcvtns fcvtnu fcvtas fcvtau fcvtms fcvtmu fcvtps fcvtpu fcvtzs "
    "fcvtzu frinta frinti frintm frintn frintp frintx frintz",
    "fp_divide": "fdiv",
    "fp_sqrt": "fsqrt",
    "fp_estimate": "frecpe frsqrte frecpx urecpe ursqrte",
    "fp_step": "frecps frsqrts",
    "reduce": "addv saddlv uaddlv smaxv sminv umaxv uminv fmaxv fminv fmaxnmv fminnmv",
    "int_add": "add sub addp saddl uaddl saddw uaddw ssubl usubl ssubw usubw saddlp uaddlp neg abs sabd uabd sabdl "
    "uabdl shadd uhadd shsub uhsub srhadd urhadd addhn subhn raddhn rsubhn cmeq cmge cmgt cmhi cmhs cmle cmlt cmtst "
    "smax smin umax umin smaxp sminp umaxp uminp sqadd uqadd sqsub uqsub suqadd usqadd sqabs sqneg "
    "cnt clz cls rbit",
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
_GROUP = {name: group for group, names in _VECTOR_GROUPS.items() for name in names.split()}
_ACCUMULATING = _names(
    "fmla fmls fmlal fmlsl fcmla mla mls smlal umlal smlsl umlsl sqdmlal sqdmlsl sqrdmlah sqrdmlsh sdot udot usdot "
    "sudot bfdot smmla ummla usmmla bfmmla sadalp uadalp saba uaba sabal uabal ssra usra srsra ursra"
)
_INSERTING = _names("sri sli bsl bit bif ins tbx movk bfi bfxil bfm bfc")
_SCALAR_GROUPS: dict[str, str] = {
    "multiply": "mul madd msub mneg smull umull smaddl umaddl smsubl umsubl smulh umulh smnegl umnegl",
    "divide": "sdiv udiv",
    "hint": "nop yield hint bti paciasp autiasp dmb dsb isb clrex prfm prfum",
}
_SCALAR = {name: group for group, names in _SCALAR_GROUPS.items() for name in names.split()}
_SETS_FLAGS = _names("cmp cmn tst adds subs ands bics negs adcs sbcs ngcs ccmp ccmn fcmp fcmpe fccmp fccmpe")
_NO_RESULT = _names("cmp cmn tst ccmp ccmn fcmp fcmpe fccmp fccmpe nop hint prfm prfum svc")
_READS_FLAGS = re.compile(r"^(b\.|csel|cset|csetm|csinc|csinv|csneg|cinc|cinv|cneg|ccmp|ccmn|adc|sbc|ngc|fcsel|fccmp)")
_BRANCHES = _names("b bl br blr ret cbz cbnz tbz tbnz braa blraa retaa")
_SYSTEM = _names("mrs msr svc ldxr ldaxr stxr stlxr ldar stlr casal cas casa swp swpal ldadd ldaddal")
_REGISTER = re.compile(r"\b(?:([wx])(\d+)|([vqdshbz])(\d+)|(w?sp))\b")
_LIST = re.compile(r"\{([^}]*)\}(\[\d+\])?")
_SIZES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16, "w": 4, "x": 8}
# Introduced after capstone 5: (mask, value) → mnemonic and operand pattern (bf16; Arm DDI 0487, C4.1).
_LATER = (
    (0xFFE0FC00, 0x2E40FC00, "bfdot", "2s"),
    (0xFFE0FC00, 0x6E40FC00, "bfdot", "4s"),
    (0xFFE0FC00, 0x6E40EC00, "bfmmla", "4s"),
)


def decode(words: Sequence[int]) -> tuple[Instruction, ...]:
    """The instructions of a block, in order; a word that is no known instruction has the group "unknown"."""
    return tuple(_decode(word) for word in words)


@functools.cache
def _disassembler() -> object:
    import capstone

    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


@functools.lru_cache(maxsize=65536)
def _decode(word: int) -> Instruction:
    # At an address high enough that a backward branch's target stays positive: its distance is what counts.
    here = 1 << 40
    found = next(_disassembler().disasm_lite(word.to_bytes(4, "little"), here), None)  # type: ignore[attr-defined]
    if found is None:
        for mask, value, name, form in _LATER:
            if word & mask == value:
                regs = (word & 31, word >> 5 & 31, word >> 16 & 31)
                return _vector(name, f"v{regs[0]}.{form}, v{regs[1]}.16b, v{regs[2]}.16b")
        return Instruction(UNKNOWN, text=f".inst {word:#010x}")
    _, _, mnemonic, operands = found
    if mnemonic == "udf":
        return Instruction(UNKNOWN, text=f"{mnemonic} {operands}")
    if mnemonic in _BRANCHES or mnemonic.startswith("b."):
        return _branch(mnemonic, operands, here)
    if "[" in operands and mnemonic.startswith(("ld", "st", "prf", "cas", "swp")) and "]" in operands:
        return _memory(mnemonic, operands)
    name = mnemonic.rstrip("2") if mnemonic[:-1] in _GROUP else mnemonic
    if any(match.group(3) for match in _REGISTER.finditer(operands)):
        return _vector(name, operands, upper=name != mnemonic)
    registers = _registers(operands)
    writes = () if mnemonic in _NO_RESULT else registers[:1]
    reads = registers if mnemonic in _NO_RESULT or mnemonic in _INSERTING else registers[1:]
    if operands.startswith(("wzr", "xzr")) and mnemonic not in _NO_RESULT:
        writes, reads = (), registers
    group = _SCALAR.get(mnemonic, _alu(mnemonic, operands))
    if mnemonic in _SYSTEM:
        group = "system"
    reads, writes = _with_flags(mnemonic, reads, writes)
    return Instruction(group, reads, writes, text=f"{mnemonic} {operands}")


def _alu(mnemonic: str, operands: str) -> str:
    """Shifting an operand costs; shifting it left by up to four places costs less on the newer cores."""
    shift = re.search(r"\b(lsl|lsr|asr|ror|[us]xt[bhwx])(?: #(\d+|0x[0-9a-f]+))?$", operands)
    if shift is None or mnemonic.startswith("mov"):
        return "alu"
    return "alu_lsl" if shift.group(1) == "lsl" and int(shift.group(2) or "0", 0) <= 4 else "alu_shift"


def _with_flags(
    mnemonic: str, reads: tuple[int, ...], writes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (
        (*reads, FLAGS) if _READS_FLAGS.match(mnemonic) else reads,
        (*writes, FLAGS) if mnemonic in _SETS_FLAGS else writes,
    )


def _registers(text: str) -> tuple[int, ...]:
    """Numbers of the registers named, in order; the zero registers are none."""
    found = []
    for match in _REGISTER.finditer(text):
        if match.group(2):
            found.append(int(match.group(2)))
        elif match.group(4):
            found.append(32 + int(match.group(4)))
        else:
            found.append(31)
    return tuple(found)


def _branch(mnemonic: str, operands: str, here: int) -> Instruction:
    target = re.search(r"#(0x[0-9a-f]+|\d+)$", operands)
    direct = int(target.group(1), 0) - here if target and mnemonic not in ("br", "blr", "ret") else None
    reads = _registers(operands) or ((30,) if mnemonic == "ret" else ())
    writes: tuple[int, ...] = (30,) if mnemonic in ("bl", "blr") else ()
    reads, writes = _with_flags(mnemonic, reads, writes)
    return Instruction("branch", reads, writes, branch=direct, text=f"{mnemonic} {operands}".strip())


def _vector(name: str, operands: str, *, upper: bool = False) -> Instruction:
    first, _, rest = operands.partition(",")
    group = _GROUP.get(name, UNKNOWN)
    registers = _registers(operands)
    to_gpr = first.strip()[0] in "wx"
    from_gpr = not to_gpr and bool(re.search(r"\b[wx](\d+|zr)\b", rest)) and name in ("mov", "fmov", "dup", "ins")
    lane = "[" in first and name in ("mov", "ins")
    if to_gpr:
        group = "move_gpr"
    elif from_gpr or (name in ("scvtf", "ucvtf") and re.search(r"\b[wx]\d+\b", rest)):
        group = "insert_gpr"
    elif lane or (name == "mov" and "[" in rest):
        group = "permute"
    if group == "logic" and name == "fmov" and "v" not in first and not rest.strip().startswith("#"):
        group = "fp_simple"
    wide = bool(re.search(r"\.(16b|8h|4s|2d|1q)", operands)) or upper
    writes = () if name in _NO_RESULT else registers[:1]
    reads = registers if name in _NO_RESULT else registers[1:]
    accumulator = -1
    if name in _ACCUMULATING:
        accumulator = registers[0]
    elif name in ("fmadd", "fmsub", "fnmadd", "fnmsub") and len(registers) == 4:
        accumulator, reads = registers[3], registers[1:3]
    # The upper half of a narrowing result, one lane, or selected bits: the rest of the register is kept, so it is read.
    # (Upper-half forms that widen read the upper half of a *source*: they write all of their destination.)
    narrowing = upper and bool(re.match(r"v\d+\.(16b|8h|4s)$", first)) and _narrows(name)
    if name in _INSERTING or lane or narrowing:
        reads = (*reads, registers[0])
    if accumulator >= 0 and group not in ("fp_mac", "int_mul", "int_mul_long", "dot", "matmul", "int_pair_acc"):
        reads, accumulator = (*reads, accumulator), -1
    table = len(_registers(operands[operands.find("{") : operands.find("}")])) if "{" in operands else 1
    text = f"{name}{'2' if upper else ''} {operands}"
    reads, writes = _with_flags(name, reads, writes)
    return Instruction(group, reads, writes, accumulator, wide=wide, registers=table, text=text)


def _narrows(name: str) -> bool:
    return name in ("xtn", "sqxtn", "uqxtn", "sqxtun", "addhn", "subhn", "raddhn", "rsubhn", "fcvtn", "fcvtxn") or (
        name.endswith(("shrn", "shrun")) and name != "sri"
    )


def _memory(mnemonic: str, operands: str) -> Instruction:
    """Loads, stores and prefetches: bytes from the registers' sizes, writeback from what follows the bracket."""
    text = f"{mnemonic} {operands}"
    at = operands.rfind("[") if operands.rstrip()[-1] in "]!" else _address_start(operands)
    data, address = operands[:at], operands[at:]
    inside, _, after = address.partition("]")
    base = _registers(inside)[:1]
    addresses = _registers(address)
    written_back = after.strip().startswith("!") or after.strip().startswith(",")
    moved = _registers(data)
    vectors = _LIST.search(data)
    common = {"base": base[0] if written_back and base else -1, "text": text}
    if mnemonic.startswith("prf"):
        return Instruction("prefetch", addresses, **common)  # type: ignore[arg-type]
    if mnemonic in _SYSTEM or mnemonic.startswith(("cas", "swp", "ldadd", "ldx", "ldax", "stx", "stlx")):
        return Instruction("system", (*moved, *addresses), moved[:1], text=text)
    load = mnemonic.startswith("ld")
    kind = "load" if load else "store"
    if vectors:
        lane = bool(vectors.group(2))
        replicate = mnemonic.endswith("r")
        form = re.search(r"\.(\d*)([bhsd])", data)
        count, element = len(moved), _SIZES[form.group(2)] if form else 16
        whole = int(form.group(1) or 1) * element if form else 16
        size = count * (element if lane or replicate else whole)
        digit = re.search(r"[1-4]", mnemonic)  # ld1…ld4; SVE's ldff1b, ldnt1w too
        structure = int(digit.group()) if digit else 1
        group = f"v{kind}_lane" if lane or replicate else f"v{kind}" if structure == 1 else f"v{kind}_struct"
        reads = (*addresses, *(moved if lane or not load else ()))
        return Instruction(
            group,
            reads,
            moved if load else (),
            wide=whole == 16,
            registers=count,
            load_bytes=size if load else 0,
            store_bytes=0 if load else size,
            **common,  # type: ignore[arg-type]
        )
    width = data.strip()[:1]
    each = _SIZES.get(width, 8)
    if width in "wx":
        each = 1 if mnemonic.endswith("b") else 2 if mnemonic.endswith("h") else 4 if "sw" in mnemonic else each
    pair = mnemonic.startswith(("ldp", "stp", "ldnp", "stnp"))
    size = each * (2 if pair else 1)
    vector = width in "qdshb"
    group = f"v{kind}" if vector else kind
    return Instruction(
        group,
        addresses if load else (*moved, *addresses),
        moved if load else (),
        wide=each == 16,
        registers=2 if pair else 1,
        load_bytes=size if load else 0,
        store_bytes=0 if load else size,
        **common,  # type: ignore[arg-type]
    )


def _address_start(operands: str) -> int:
    """Where a post-indexed address begins: the bracket that no lane index follows a `}` or a register with."""
    starts = [match.start() for match in re.finditer(r"\[(?=x|sp)", operands)]
    return starts[-1] if starts else operands.rfind("[")
