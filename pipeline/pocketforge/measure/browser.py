"""Programs in pages of a headless Chromium, which reaches nothing but a server of ours on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketforge.devices.web import PROGRAMS, WEB, chromium, node
from pocketforge.errors import DeviceTimeout, ToolFailed, ToolMissing

# Of one page: seconds for the samples of a phone's model.
TIME_LIMIT_S = 600
_START_S = 60
# What every page may import: where the browser finds each package that app code names.
IMPORTS: Mapping[str, str] = {
    "@litertjs/core": "/modules/@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "/modules/@litertjs/wasm-utils/dist/index.js",
    "onnxruntime-web": "/modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/wasm": "/modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page to open.

    Attributes:
        program: Path on the server of a module; what its `main(argument)` answers is the page's answer.
        argument: For it; what JSON can hold.
        mounts: Path on the server → file or folder that lies there. `/modules` has the packages, `/page` our programs.
        outputs: Folder that gets what the page sends to /outputs/NAME.
        limit_s: Of all that it does, in seconds.
    """

    program: str
    argument: Mapping[str, object]
    mounts: Mapping[str, Path]
    outputs: Path
    limit_s: float = TIME_LIMIT_S


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What came of it.

    Attributes:
        answer: The program's own, what JSON holds; None where there is a fault.
        fault: Why it has none, in the page's words.
        refused: Addresses outside our server that the page asked for. None was reached.
        said: What it wrote to the console.
    """

    answer: Any = None
    fault: str = ""
    refused: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def run_pages(pages: Sequence[Page]) -> list[PageAnswer]:
    """Open each page in turn, in one browser with a profile of its own.

    Raises ToolMissing (no packages, Node.js or Chromium), ToolFailed (no browser starts), DeviceTimeout.
    """
    if not WEB.ready:
        raise ToolMissing(
            "wanted the packages that run files in a browser, which are not set up", "pocketforge device setup web"
        )
    program, browser = node(), chromium()
    # Not in TMPDIR, which is a stage's own and deep: the path of Chromium's socket may be 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pocketforge-", dir="/tmp") as scratch:
        order, answer = Path(scratch, "order.json"), Path(scratch, "answer.json")
        content = {"chromium": browser, "modules": WEB.modules, "pages": [_told(page) for page in pages]}
        order.write_text(json.dumps(content, default=os.fspath), encoding="utf-8")
        argv = [os.fspath(each) for each in (program, PROGRAMS / "driver.mjs", order, answer)]
        errors = Path(scratch, "errors.txt")
        code = _wait(argv, errors, scratch, _START_S + sum(page.limit_s for page in pages))
        if code != 0 or not answer.exists():
            raise ToolFailed(argv, code, errors.read_text(encoding="utf-8", errors="replace"))
        told = json.loads(answer.read_text(encoding="utf-8"))
    return [
        PageAnswer(each.get("answer"), each.get("fault", ""), tuple(each["refused"]), tuple(each["said"]))
        for each in told["pages"]
    ]


def _told(page: Page) -> dict[str, object]:
    mounts = {"/modules": WEB.modules, "/page": PROGRAMS, **page.mounts}
    # The server compares paths as texts.
    places = {at: place.resolve() for at, place in mounts.items()}
    told = {"program": page.program, "argument": page.argument, "limit_s": page.limit_s, "outputs": page.outputs}
    return {**told, "mounts": places, "imports": IMPORTS}


def _wait(argv: Sequence[str], errors: Path, scratch: str, limit_s: float) -> int:
    """The driver's exit code. It ends, and its browser with it, when its standard input does."""
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr, cwd=scratch,
            # The browser's own files, all in one folder that goes.
            env={**os.environ, "HOME": scratch, "TMPDIR": scratch},
        )  # fmt: skip
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise DeviceTimeout(f"pages in a browser were not done in {limit_s:.0f} s", "use fewer samples") from None
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
