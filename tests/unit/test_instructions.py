"""Each instruction is in the class that its name in the architecture manual puts it in; unknown words show."""

from __future__ import annotations

import pytest

from pocketforge.devices.emulator.counts import CLASSES, UNKNOWN
from pocketforge.devices.emulator.instructions import by_class, classify, decode

# Assembled by llvm-mc, which is not needed to run this.
ASSEMBLED = (
    ("smmla v0.4s, v1.16b, v2.16b", 0x4E82A420, "i8mm"),
    ("ummla v0.4s, v1.16b, v2.16b", 0x6E82A420, "i8mm"),
    ("usmmla v0.4s, v1.16b, v2.16b", 0x4E82AC20, "i8mm"),
    ("usdot v0.4s, v1.16b, v2.16b", 0x4E829C20, "i8mm"),
    ("sudot v0.4s, v1.16b, v2.4b[1]", 0x4F22F020, "i8mm"),
    ("sdot v0.4s, v1.16b, v2.4b[1]", 0x4FA2E020, "dot"),
    ("udot v0.2s, v1.8b, v2.8b", 0x2E829420, "dot"),
    ("bfdot v0.4s, v1.8h, v2.8h", 0x6E42FC20, "fp_mac"),
    ("bfmmla v0.4s, v1.8h, v2.8h", 0x6E42EC20, "fp_mac"),
    ("bfmlalb v0.4s, v1.8h, v2.8h", 0x2EC2FC20, "fp_mac"),
    ("fmlal v0.4s, v1.4h, v2.4h", 0x4E22EC20, "fp_mac"),
    ("fmlal2 v0.4s, v1.4h, v2.4h", 0x6E22CC20, "fp_mac"),
    ("fmla v0.8h, v1.8h, v2.8h", 0x4E420C20, "fp_mac"),
    ("fmla z0.s, p0/m, z1.s, z2.s", 0x65A20020, "fp_mac"),
    ("fmad z0.s, p0/m, z1.s, z2.s", 0x65A28020, "fp_mac"),
    ("fmla z0.s, z1.s, z2.s[1]", 0x64AA0020, "fp_mac"),
    ("sdot z0.s, z1.b, z2.b", 0x44820020, "dot"),
    ("sdot z0.d, z1.h, z2.h[1]", 0x44F20020, "dot"),
    ("smmla z0.s, z1.b, z2.b", 0x45029820, "i8mm"),
    ("usdot z0.s, z1.b, z2.b", 0x44827820, "i8mm"),
    ("smlalb z0.s, z1.h, z2.h", 0x44824020, "int_mac"),
    ("mla z0.s, p0/m, z1.s, z2.s", 0x04824020, "int_mac"),
    ("mad z0.s, p0/m, z1.s, z2.s", 0x0481C040, "int_mac"),
    ("smullb z0.s, z1.h, z2.h", 0x45827020, "int_mac"),
    ("ld1b { z0.b }, p0/z, [x0]", 0xA400A000, "load"),
    ("ld1rw { z0.s }, p0/z, [x0]", 0x8540C000, "load"),
    ("ld1rqb { z0.b }, p0/z, [x0]", 0xA4002000, "load"),
    ("st1w { z0.s }, p0, [x0]", 0xE540E000, "store"),
    ("ldr z0, [x0]", 0x85804000, "load"),
    ("str z0, [x0]", 0xE5804000, "store"),
    ("prfw pldl1keep, p0, [x0]", 0x85C04000, "load"),
    ("whilelt p0.s, x0, x1", 0x25A11400, "other"),
    ("ldadd x0, x1, [x2]", 0xF8200041, "load"),
    ("stadd x0, [x2]", 0xF820005F, "store"),
    ("cas x0, x1, [x2]", 0xC8A07C41, "load"),
    ("swpal x0, x1, [x2]", 0xF8E08041, "load"),
    ("ldapr x0, [x1]", 0xF8BFC020, "load"),
    ("dc zva, x0", 0xD50B7420, "store"),
    ("dc civac, x0", 0xD50B7E20, "other"),
    ("paciasp", 0xD503233F, "other"),
    ("autiasp", 0xD50323BF, "other"),
    ("retaa", 0xD65F0BFF, "branch"),
    ("blraa x0, x1", 0xD73F0801, "branch"),
    ("bti c", 0xD503245F, "other"),
    ("svc #0", 0xD4000001, "branch"),
    ("brk #0x1", 0xD4200020, "other"),
    ("isb", 0xD5033FDF, "other"),
    ("smlal v0.4s, v1.4h, v2.4h", 0x0E628020, "int_mac"),
    ("smlal2 v0.4s, v1.8h, v2.8h", 0x4E628020, "int_mac"),
    ("smull v0.4s, v1.4h, v2.4h", 0x0E62C020, "int_mac"),
    ("mul v0.4s, v1.4s, v2.4s", 0x4EA29C20, "int_mac"),
    ("mla v0.4s, v1.4s, v2.s[1]", 0x6FA20020, "int_mac"),
    ("mls v0.8h, v1.8h, v2.8h", 0x6E629420, "int_mac"),
    ("sqrdmulh v0.4s, v1.4s, v2.4s", 0x6EA2B420, "other"),
    ("sqdmlal v0.4s, v1.4h, v2.4h", 0x0E629020, "int_mac"),
    ("sqrdmlah v0.4s, v1.4s, v2.4s", 0x6E828420, "int_mac"),
    ("pmull v0.8h, v1.8b, v2.8b", 0x0E22E020, "other"),
    ("madd x0, x1, x2, x3", 0x9B020C20, "int_mac"),
    ("mul x0, x1, x2", 0x9B027C20, "int_mac"),
    ("mneg x0, x1, x2", 0x9B02FC20, "int_mac"),
    ("smaddl x0, w1, w2, x3", 0x9B220C20, "int_mac"),
    ("umull x0, w1, w2", 0x9BA27C20, "int_mac"),
    ("smulh x0, x1, x2", 0x9B427C20, "int_mac"),
    ("fmadd s0, s1, s2, s3", 0x1F020C20, "fp_mac"),
    ("fnmsub d0, d1, d2, d3", 0x1F628C20, "fp_mac"),
    ("fmul s0, s1, s2", 0x1E220820, "other"),
    ("fmulx v0.4s, v1.4s, v2.4s", 0x4E22DC20, "other"),
    ("fmls v0.4s, v1.4s, v2.s[1]", 0x4FA25020, "fp_mac"),
    ("fcmla v0.4s, v1.4s, v2.4s, #90", 0x6E82CC20, "fp_mac"),
    ("blr x1", 0xD63F0020, "branch"),
    ("br x16", 0xD61F0200, "branch"),
    ("ret", 0xD65F03C0, "branch"),
    ("stp x0, x1, [sp, #-16]!", 0xA9BF07E0, "store"),
    ("stxr w0, x1, [x2]", 0xC8007C41, "store"),
    ("stlr x0, [x1]", 0xC89FFC20, "store"),
    ("ldxp x0, x1, [x2]", 0xC87F0440, "load"),
    ("ldnp x0, x1, [x2]", 0xA8400440, "load"),
    ("stnp q0, q1, [x2]", 0xAC000440, "store"),
    ("prfm pldl1keep, [x0]", 0xF9800000, "load"),
    ("ld4 { v0.4s, v1.4s, v2.4s, v3.4s }, [x0]", 0x4C400800, "load"),
    ("st4 { v0.4s, v1.4s, v2.4s, v3.4s }, [x0]", 0x4C000800, "store"),
    ("ld1r { v0.4s }, [x0]", 0x4D40C800, "load"),
    ("ldff1w { z0.s }, p0/z, [x0]", 0xA55F6000, "load"),
    ("ldnt1w { z0.s }, p0/z, [x0]", 0xA500E000, "load"),
    ("stnt1w { z0.s }, p0, [x0]", 0xE510E000, "store"),
    ("stg x0, [x0]", 0xD9200800, "store"),
    ("casp x0, x1, x2, x3, [x4]", 0x48207C82, "load"),
    ("ctermeq x0, x1", 0x25E12000, "other"),
    ("cntw x0", 0x04A0E3E0, "other"),
    ("addvl x0, x0, #1", 0x04205020, "other"),
    ("rdvl x0, #1", 0x04BF5020, "other"),
    ("ptrue p0.s", 0x2598E3E0, "other"),
    ("tbz x0, #3, .+8", 0x36180040, "branch"),
    ("cbnz w1, .+8", 0x35000041, "branch"),
    ("b .+8", 0x14000002, "branch"),
    ("bl .+8", 0x94000002, "branch"),
    ("b.ne .+8", 0x54000041, "branch"),
)


@pytest.mark.parametrize(("text", "word", "kind"), ASSEMBLED, ids=[text for text, _, _ in ASSEMBLED])
def test_class(text: str, word: int, kind: str) -> None:
    assert classify(word) == kind
    assert decode(word)[0].partition(".")[0] == text.split()[0].partition(".")[0]


def test_every_class_is_met() -> None:
    assert {kind for _, _, kind in ASSEMBLED} == set(CLASSES)


@pytest.mark.parametrize("word", [0xFFFFFFFF, 0x07FFFFFF, 0x5AFFFFFF])
def test_what_is_no_instruction_is_not_hidden_in_other(word: int) -> None:
    assert decode(word) == ("", "")
    assert classify(word) == UNKNOWN


def test_executions_are_summed_by_class() -> None:
    fmla, ret = 0x4FA25020, 0xD65F03C0
    assert by_class([(fmla, 3), (ret, 1), (fmla, 4), (0xFFFFFFFF, 2)]) == {"fp_mac": 7, "branch": 1, UNKNOWN: 2}
