"""What a browser's answers are held to, and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketforge.devices.outputs import Output
from pocketforge.devices.web import PROGRAMS, WEB, chromium, node
from pocketforge.errors import ToolMissing
from pocketforge.measure.browser import Page, run_pages
from pocketforge.measure.web_consumers import compared

SCORES = np.array([[1.0, -300.0, 0.5], [np.inf, np.nan, 2.0]], np.float32)


def near(by: float) -> np.ndarray:
    return SCORES + np.float32(by)


@pytest.mark.parametrize(
    ("there", "passed", "found"),
    [
        (SCORES, True, "equal to the bit"),
        (near(2e-3), True, "y up to 0.00201"),
        (near(4e-3), False, "y up to 0.004"),
        (np.nan_to_num(SCORES, nan=0.0, posinf=np.inf), False, "y up to nan"),
        (np.nan_to_num(SCORES, nan=np.nan, posinf=3e38), False, "y up to inf"),
        (np.full((2, 3), 5, np.int64), False, "y up to"),
    ],
)
def test_floats_may_differ_by_a_hundred_thousandth_of_the_largest(there: np.ndarray, passed: bool, found: str) -> None:
    far, (check,) = compared([Output("y", there)], [Output("y", SCORES)])
    assert check.passed is passed and check.found.startswith(found), check
    assert bool(far) == (found != "equal to the bit")


def test_integers_are_the_same_or_wrong() -> None:
    here = Output("classes", np.array([3, 1, 2, 2]))
    assert compared([here], [here])[0] == ""
    far, (check,) = compared([Output("classes", np.array([3, 1, 2, 1]))], [here])
    assert far == "25.00% of classes other" and not check.passed


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("POCKETFORGE_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    assert WEB.words == "none"
    with pytest.raises(ToolMissing) as caught:
        chromium()
    assert "looked for chromium, " in caught.value.message and "apt-get install chromium" in caught.value.hint
    with pytest.raises(ToolMissing, match="wanted node, which is not installed"):
        node()
    with pytest.raises(ToolMissing, match="wanted npm"):
        WEB.setup()
    assert not WEB.folder.exists(), "nothing is half made"
    with pytest.raises(ToolMissing) as caught:
        run_pages([Page("/x.mjs", {}, {}, tmp_path)])
    assert caught.value.hint == "pocketforge device setup web"
    (tmp_path / "node").write_text("#!/bin/sh\necho v16.20.2\n")
    (tmp_path / "node").chmod(0o755)
    with pytest.raises(ToolMissing, match=r"wanted Node.js 18 or newer, found 16\.20\.2"):
        node()


def test_the_lock_pins_all_and_names_no_registry() -> None:
    text = (PROGRAMS / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text and "resolved" not in text
    packages = json.loads(text)["packages"]
    assert all(each.get("integrity") for name, each in packages.items() if name)
    assert packages[""]["dependencies"] == WEB.packages
    assert all(version[0].isdigit() for version in WEB.packages.values())
