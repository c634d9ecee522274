"""What a depthwise convolution reads again is the same in all three formats."""

from __future__ import annotations

import contextlib
import importlib
import io
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pocketforge.registries import RUNTIMES  # noqa: E402
from pocketforge.runtimes.traffic import traffic_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_depthwise_convolution_tells_its_window(runtime: str, tmp_path: Path) -> None:
    from pocketforge.runtimes.base import ExportRequest

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8), torch.nn.Conv2d(8, 4, 1)
    ).eval()
    example = (torch.randn(1, 3, 16, 12),)
    exported = torch.export.export(net, example)
    request = ExportRequest(exported, exported, example, ("x",), ("y",), "NCHW", "float32", None, scheme="fp32")
    with contextlib.redirect_stdout(io.StringIO()):
        result = importlib.import_module(RUNTIMES[runtime].module).export(request, tmp_path)
    (window,) = (each for each in traffic_of(tmp_path / result.files["model"])["operators"] if each["taps"])
    read = 4 * 8 * 16 * 12
    # Each row of the output needs 5 of 16; two new ones a step, so 3 of every 5 were read before: 1.5 times the input.
    assert (window["taps"], window["input_bytes"], window["rows"]) == (25, read, 0)
    assert (window["window_bytes"], window["window_held_bytes"]) == (read * 3 // 2, read * 5 // 16)
