"""The generated stand-ins for libtorch and Python: every symbol once, pthreadpool's loops as its header has them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pocketforge.devices.emulator import torch_stub
from pocketforge.devices.emulator.torch_stub import Missing

TORCH = importlib.util.find_spec("torch")
assert TORCH is not None and TORCH.origin is not None
HEADER = Path(TORCH.origin).parent / "include" / "pthreadpool.h"


def declared() -> dict[str, int]:
    """pthreadpool's loops → how many parameters each takes."""
    text = HEADER.read_text(encoding="utf-8")
    found = re.findall(r"^void (pthreadpool_parallelize_\w+)\(([^)]*)\);", text, re.MULTILINE)
    return {name: parameters.count(",") + 1 for name, parameters in found}


def test_every_loop_of_pthreadpool_takes_what_its_header_says():
    loops = declared()
    assert len(loops) > 40
    for name, count in loops.items():
        text = torch_stub.source([Missing(name, False)])
        parameters = re.search(rf"^void {name}\(([^)]*)\)", text, re.MULTILINE)
        assert parameters is not None and parameters[1].count(",") + 1 == count, name


@pytest.mark.skipif(shutil.which("cc") is None, reason="the check of the loops' results needs a C compiler")
def test_the_loops_cover_every_item_once(tmp_path):
    names = ["3d_tile_2d", "2d_tile_2d_dynamic_with_uarch", "2d_tile_1d_dynamic_with_thread", "1d_tile_1d"]
    source = torch_stub.source([Missing(torch_stub.PREFIX + name, False) for name in names])
    # The host's processor has no FPCR.
    source = re.sub(r"__asm__ volatile\(\"mrs[^;]*;", "before = 0;", source)
    source = re.sub(r"if \(flags & 1\) __asm__[^;]*;", "(void)flags; (void)before;", source)
    source = source.replace("_ZNSt8ios_base4InitC1Ev(object);", "(void)object;")
    source += r"""
static int seen[1000];
static void three(void *c, size_t i, size_t j, size_t k, size_t tj, size_t tk) {
    (void)c;
    for (size_t b = j; b < j + tj; b++) for (size_t d = k; d < k + tk; d++) seen[i * 100 + b * 10 + d]++;
}
static void uarch(void *c, uint32_t u, size_t i, size_t j, size_t ti, size_t tj) { three(c, u, i, j, ti, tj); }
static void thread(void *c, size_t t, size_t i, size_t j, size_t tj) { three(c, t, i, j, 1, tj); }
static void one(void *c, size_t i, size_t ti) { three(c, 0, 0, i, 1, ti); }
int main(void) {
    void *p = 0;
    pthreadpool_parallelize_3d_tile_2d(p, three, p, 3, 10, 10, 4, 3, 1);
    pthreadpool_parallelize_2d_tile_2d_dynamic_with_uarch(p, uarch, p, 0, 0, 10, 10, 4, 3, 1);
    pthreadpool_parallelize_2d_tile_1d_dynamic_with_thread(p, thread, p, 10, 10, 3, 1);
    pthreadpool_parallelize_1d_tile_1d(p, one, p, 10, 3, 1);
    for (int i = 0; i < 300; i++) printf("%d", seen[i]);
}
"""
    (tmp_path / "stub.c").write_text(source)
    subprocess.run(["cc", "-w", "stub.c", "-o", "stub"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "stub"], capture_output=True, text=True, check=True).stdout
    assert printed == "4" * 10 + "3" * 90 + "1" * 200


def test_data_functions_and_what_is_written_by_hand():
    text = torch_stub.source(
        [Missing("PyExc_ValueError", True), Missing("PyErr_Clear", False), Missing("cpuinfo_isa", True),
         Missing("pthreadpool_create", False)]
    )  # fmt: skip
    assert "char PyExc_ValueError[4096]" in text and 'void PyErr_Clear(void) { not_here("PyErr_Clear"); }' in text
    assert "cpuinfo_isa" not in text and text.count("pthreadpool_create(") == 1


def test_an_unknown_loop_is_refused():
    with pytest.raises(ValueError, match="unknown pthreadpool function pthreadpool_parallelize_7d_tile_3d_funny"):
        torch_stub.source([Missing("pthreadpool_parallelize_7d_tile_3d_funny", False)])
