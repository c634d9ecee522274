"""What a file takes packed, without having it in memory: as gzip itself says."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from pocketforge.files import gzip_size_bytes


@pytest.mark.parametrize("size_bytes", [0, 1, 70_000, (1 << 20) + 5, 3 << 20])
def test_a_file_read_in_parts_packs_as_the_whole_does(tmp_path: Path, size_bytes: int) -> None:
    dice = random.Random(size_bytes)
    content = (dice.randbytes(1000) * 4000)[: size_bytes // 2] + bytes(size_bytes - size_bytes // 2)
    (tmp_path / "model.onnx").write_bytes(content)
    assert gzip_size_bytes(tmp_path / "model.onnx") == len(gzip.compress(content, 9, mtime=0))
