"""The report's page in a real headless Chromium, as phones and desks show it, in light and in dark; axe-core looks too.

One start of the browser for all pages. `POCKETFORGE_PAGE_SHOTS=FOLDER` keeps screenshots, to be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from history_builds import trend_values
from report_pages import EVIL, RIGHT_TO_LEFT, as_written, hostile, hostile_comparison, with_ranges, with_times

from pocketforge.history.trend import lines_of
from pocketforge.records import Report
from pocketforge.report.page import trend, write
from pocketforge.streams import printable

TOOLS = Path(__file__).resolve().parents[1] / "tools"
HOW = "python tests/tools/apt_packages.py; python tests/tools/fetch_page_checks.py"
# What the checks must find: else they would find nothing in our pages either.
FAULTY = """<!doctype html><html><head><meta charset="utf-8"><title>x</title></head>
<body style="background:#fff"><p style="color:#ddd">pale</p><img src="http://127.0.0.1:9/x.png">
<div style="width:3000px">wide</div><details><table><tr><td>folded</td></tr></table></details>
<script>console.error("an error"); throw new Error("thrown")</script>
</body></html>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    chromium, node = shutil.which("chromium"), shutil.which("node")
    found = subprocess.run([sys.executable, TOOLS / "fetch_page_checks.py", "--where"], capture_output=True, text=True)
    modules = Path(found.stdout.strip()) / "node_modules"
    if not (chromium and node and modules.is_dir()):
        pytest.skip(f"needs Chromium, Node.js and packages of npm: {HOW}")
    folder = tmp_path_factory.mktemp("pages")
    lines = lines_of(trend_values())
    pages = {
        "real": write(Report.from_json(with_ranges(with_times(as_written("quantized"))))),
        "hostile": write(hostile()),
        "trend": trend.write(lines),
    }
    pages |= {"compared": hostile_comparison(), "faulty": FAULTY}
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    order = {
        "chromium": chromium,
        "modules": str(modules),
        "pages": [str(folder / f"{name}.html") for name in pages],
        "shots": os.environ.get("POCKETFORGE_PAGE_SHOTS", ""),
    }
    (folder / "order.json").write_text(json.dumps(order))
    argv = [node, *map(str, (TOOLS / "page" / "look.mjs", folder / "order.json", folder / "answer.json"))]
    env = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return dict(zip(pages, answer["pages"], strict=True))


@pytest.mark.parametrize("name", ["real", "hostile", "trend", "compared"])
def test_a_browser_has_nothing_to_say_and_asks_for_nothing(seen: dict[str, Any], name: str) -> None:
    page = seen[name]
    assert (page["said"], page["asked"], page["scripts"]) == ([], [], 0)


@pytest.mark.parametrize("name", ["real", "hostile", "trend", "compared"])
def test_everybody_can_read_it(seen: dict[str, Any], name: str) -> None:
    """axe-core: contrast, names of regions, order of headings, tables; in every look."""
    assert seen[name]["faults"] == []
    assert seen[name]["headings"][0] == "H1" and set(seen[name]["headings"][1:]) == {"H2"}


@pytest.mark.parametrize("name", ["real", "hostile", "trend", "compared"])
def test_a_phone_scrolls_tables_and_not_the_page(seen: dict[str, Any], name: str) -> None:
    assert seen[name]["wider"] == []


def test_a_printer_prints_what_is_folded(seen: dict[str, Any]) -> None:
    assert (seen["real"]["unprinted"], seen["faulty"]["unprinted"]) == (0, 1)


def test_foreign_text_is_shown(seen: dict[str, Any]) -> None:
    text = seen["hostile"]["text"]
    assert all(printable(evil) in text for evil in EVIL) and RIGHT_TO_LEFT in text
    assert seen["hostile"]["title"] == f"{EVIL[0]}{RIGHT_TO_LEFT}: FAIL", "a script that ran would have changed it"


def test_the_checks_find_faults(seen: dict[str, Any]) -> None:
    page = seen["faulty"]
    assert any("an error" in said for said in page["said"]) and any("thrown" in said for said in page["said"])
    assert set(page["asked"]) == {"http://127.0.0.1:9/x.png"} and page["scripts"] == 2 and len(page["wider"]) == 4
    assert {"color-contrast", "image-alt", "html-has-lang"} <= {fault.split(": ")[1] for fault in page["faults"]}
