"""Loads, stores and prefetches: what moves, how many bytes, and whether the address is written back.

One table by mnemonic, after the A64 reference manual (Arm DDI 0487, "Loads and stores"). The mnemonic says the kind,
the operands the size: `ldr` loads 4 bytes into w0, 16 into q0; `ldrb` 1, whatever the register.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

from pocketforge.estimation.instruction import Instruction
from pocketforge.estimation.operands import BYTES, registers

Kind = Literal["load", "store", "prefetch", "system"]


@dataclass(frozen=True, slots=True)
class _Form:
    """What a mnemonic says of a transfer.

    general_bytes: through each w or x register; 0: as many as it holds. pair: two registers, not one. structure: of a
    list of vectors, over how many of them consecutive elements go in turns. replicates: one element fills all lanes.
    """

    kind: Kind
    general_bytes: int = 0
    pair: bool = False
    structure: int = 1
    replicates: bool = False


def _atomic(verbs: str, orders: str) -> str:
    """Atomic mnemonics: each verb with each memory order (acquire a, release l, both al)."""
    return " ".join(verb + order.strip("-") for verb in verbs.split() for order in orders.split())


_READ_AND_CHANGED = _atomic("ldclr ldeor ldset ldsmax ldsmin ldumax ldumin", "- a l al")
_CHANGED = _atomic("stadd stclr steor stset stsmax stsmin stumax stumin", "- l")
_EXCLUSIVE = "ldxr ldaxr stxr stlxr " + _atomic("cas swp ldadd", "- a l al")


def _with(suffix: str, words: str) -> str:
    return " ".join(word + suffix for word in words.split())


_ROWS: tuple[tuple[_Form, str], ...] = (
    # One register. ldur … has an unscaled offset, ldtr … the user's rights, ldapur … an order; ldraa a signed address.
    (_Form("load"), "ldr ldur ldtr ldapr ldapur ldlar ldraa ldrab " + _READ_AND_CHANGED),
    (_Form("load", general_bytes=1), "ldrb ldrsb ldurb ldursb ldtrb ldtrsb ldaprb ldapurb ldapursb ldlarb"),
    (_Form("load", general_bytes=2), "ldrh ldrsh ldurh ldursh ldtrh ldtrsh ldaprh ldapurh ldapursh ldlarh"),
    (_Form("load", general_bytes=4), "ldrsw ldursw ldtrsw ldapursw"),
    (_Form("store"), "str stur sttr stlur stllr " + _CHANGED),
    (_Form("store", general_bytes=1), "strb sturb sttrb stlurb stllrb"),
    (_Form("store", general_bytes=2), "strh sturh sttrh stlurh stllrh"),
    # Two registers, beside each other in memory; ldnp and stnp with the hint that it is not needed again.
    (_Form("load", pair=True), "ldp ldnp"),
    (_Form("load", general_bytes=4, pair=True), "ldpsw"),
    (_Form("store", pair=True), "stp stnp"),
    # Lists of vectors, {v0.4s, v1.4s}: whole ones, or one lane of each.
    *((_Form("load", structure=count), f"ld{count}") for count in (1, 2, 3, 4)),
    *((_Form("store", structure=count), f"st{count}") for count in (1, 2, 3, 4)),
    *((_Form("load", structure=count, replicates=True), f"ld{count}r") for count in (1, 2, 3, 4)),
    (_Form("prefetch"), "prfm prfum prfb prfh prfw prfd"),
    # Locks: others must see them in order. They have a cost of their own, and their bytes are not counted.
    (_Form("system"), "ldar stlr ldxp ldaxp stxp stlxp " + _atomic("casp", "- a l al") + " " + _EXCLUSIVE),
    (_Form("system"), _with("b", _EXCLUSIVE) + " " + _with("h", _EXCLUSIVE)),
    # The rest of them, which glibc and the runtimes hardly use, pass for loads and stores.
    (_Form("load", general_bytes=1), "ldarb " + _with("b", _READ_AND_CHANGED)),
    (_Form("load", general_bytes=2), "ldarh " + _with("h", _READ_AND_CHANGED)),
    (_Form("store", general_bytes=1), "stlrb " + _with("b", _CHANGED)),
    (_Form("store", general_bytes=2), "stlrh " + _with("h", _CHANGED)),
)
_FORMS: dict[str, _Form] = {name: form for form, words in _ROWS for name in words.split()}

_LIST = re.compile(r"\{[^}]*\}(\[\w+\])?")  # a lane's index above 9 is hexadecimal: {v0.b}[0xc]


@dataclass(frozen=True, slots=True)
class _Transfer:
    """What the operands say, added to the form.

    group: after "load" or "store". lane: it moves one element of each register, so that what is loaded into leaves the
    other lanes as they are.
    """

    group: str
    registers: int
    size_bytes: int
    wide: bool
    lane: bool = False


def is_memory(mnemonic: str, operands: str) -> bool:
    """Whether it goes to memory through an address in brackets."""
    return mnemonic.startswith(("ld", "st", "prf", "cas", "swp")) and "[" in operands and "]" in operands


def memory(mnemonic: str, operands: str) -> Instruction:
    """The instruction of a mnemonic and operands that `is_memory` says yes to."""
    form, text = _form(mnemonic), f"{mnemonic} {operands}"
    start = _address_start(operands)
    data, address = operands[:start], operands[start:]
    inside, _, after = address.partition("]")
    moved, addresses = registers(data), registers(address)
    # [x0, #16]! before the access, [x0], #16 or [x0], x1 after it.
    written_back = after.strip().startswith(("!", ","))
    base = registers(inside)[:1] if written_back else ()
    if form.kind == "system":
        return Instruction("system", (*moved, *addresses), moved[:1], text=text)
    if form.kind == "prefetch":
        return Instruction("prefetch", addresses, base=base[0] if base else -1, text=text)
    load = form.kind == "load"
    transfer = _of_list(form, data) if "{" in data else _of_registers(form, data)
    return Instruction(
        transfer.group.format(form.kind),
        addresses if load and not transfer.lane else (*moved, *addresses),
        moved if load else (),
        base=base[0] if base else -1,
        wide=transfer.wide,
        registers=transfer.registers,
        load_bytes=transfer.size_bytes if load else 0,
        store_bytes=0 if load else transfer.size_bytes,
        text=text,
    )


@functools.cache
def _form(mnemonic: str) -> _Form:
    """From the table; what is not in it (the scalable extensions' ld1b, ldff1w, st2d; tags) says its kind itself."""
    if mnemonic in _FORMS:
        return _FORMS[mnemonic]
    turns = re.search(r"[1-4]", mnemonic)
    return _Form("load" if mnemonic.startswith("ld") else "store", structure=int(turns.group()) if turns else 1)


def _address_start(operands: str) -> int:
    """Where the address begins: at the last bracket that is no lane's: {v0.s}[1], [x0], #4."""
    if operands.rstrip()[-1] in "]!":
        return operands.rfind("[")
    starts = [match.start() for match in re.finditer(r"\[(?=x|sp)", operands)]
    return starts[-1] if starts else operands.rfind("[")


def _of_list(form: _Form, data: str) -> _Transfer:
    """{v0.4s, v1.4s}, {v0.s}[1]; an element's size and a vector's length are in its name."""
    listed = _LIST.search(data)
    lane = listed is not None and listed.group(1) is not None
    count = len(registers(data))
    arrangement = re.search(r"\.(\d*)([bhsd])", data)
    element = BYTES[arrangement.group(2)] if arrangement else 16
    whole = element * int(arrangement.group(1) or 1) if arrangement else 16
    one_element = lane or form.replicates
    group = "v{}_lane" if one_element else "v{}" if form.structure == 1 else "v{}_struct"
    return _Transfer(group, count, count * (element if one_element else whole), whole == 16, lane)


def _of_registers(form: _Form, data: str) -> _Transfer:
    """x0; q0; d0, d1: a register's name says how wide it is, and a general one's mnemonic may ask for less."""
    width = "x" if data.startswith("sp") else data.strip()[:1]
    each = (form.general_bytes if width in "wx" else 0) or BYTES.get(width, 8)
    count = 2 if form.pair else 1
    return _Transfer("v{}" if width in "qdshb" else "{}", count, each * count, each == 16)
