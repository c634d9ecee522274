"""What tests of sessions share: a runner that is a shell script, files for it, and what is left on a phone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phone import Phone

from android_bench.adb import Adb
from android_bench.bundle import Bundle, user_bundle
from android_bench.link import Link
from android_bench.session import Job, SessionPlan

# Keeps the contract of android_bench/runner/README.md. The model is a shell script that it runs: it may set `ms`, wait,
# crash, or end.
RUNNER = r"""#!/system/bin/sh
out= mode= samples=1 inputs= ms=2.5 outputs= times=
while [ $# -gt 1 ]; do
  case $1 in
  --model) model=$2;; --mode) mode=$2;; --samples) samples=$2;; --output-dir) out=$2;; --input) inputs=$2;;
  esac
  shift 2
done
sha=$(sha256sum <"$model"); sha=${sha%% *}
. "$model"
if [ "$mode" = time ]; then
  times=$ms; n=1
  while [ $n -lt $samples ]; do times="$times, $ms"; n=$((n + 1)); done
elif [ "$mode" = run ]; then
  mkdir -p "$out"; cat "$inputs" >"$out/outputs_0.bin"
  made=$(sha256sum <"$out/outputs_0.bin")
  outputs="{\"name\": \"o\", \"file\": \"outputs_0.bin\", \"sha256\": \"${made%% *}\"}"
fi
echo "{\"runtime\": \"script\", \"runtime_version\": \"1\", \"model_sha256\": \"$sha\", \"load_ms\": 0.5," \
  "\"samples_ms\": [$times], \"peak_rss_bytes\": 1, \"loaded_rss_bytes\": 1," \
  "\"inputs\": [], \"outputs\": [$outputs]}"
"""
QUICK = SessionPlan(cores="big", warmup=0, rounds=1, samples=2, round_ms=0, cool_timeout_s=2)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def link_to(phone: Phone) -> Link:
    return Adb().phone(phone.serial)


def script_bundle(folder: Path, name: str = "runner.sh", text: str = RUNNER) -> Bundle:
    path = folder / name
    path.write_text(text)
    return user_bundle(path)


def job(folder: Path, script: str = ":", label: str = "a", *, name: str = "", bundle: Bundle | None = None) -> Job:
    """One whose model is that script."""
    model = folder / (name or f"{label}.model")
    model.write_text(f"{script}\n")
    given = folder / "input.bin"
    given.write_bytes(b"0123")
    return Job(label, bundle or script_bundle(folder), model, (given,), sha256(model))


class Heard(list[str]):
    """Collects what is said; a word may have something happen."""

    def __init__(self) -> None:
        super().__init__()
        self.then: dict[str, Callable[[], Any]] = {}

    def __call__(self, words: str) -> None:
        self.append(words)
        for part in [part for part in self.then if part in words]:
            self.then.pop(part)()

    def about(self, part: str) -> list[str]:
        return [words for words in self if part in words]


def until(holds: Callable[[], Any], within_s: float = 30) -> Any:
    end_s = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end_s, f"not within {within_s} s"
        time.sleep(0.05)
    return found


def left_on(phone: Phone) -> dict[str, Any]:
    """What of a session is on the phone: empty when there is nothing. What was just killed gets a moment to go."""
    found: dict[str, Any] = {}
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        found = {"files": phone.list("/data/local/tmp"), "processes": phone.ps()}
        if phone.fixed_performance:
            found["fixed performance"] = True
        if phone.setting("global", "stay_on_while_plugged_in") != "0":
            found["stays on"] = phone.setting("global", "stay_on_while_plugged_in")
        found = {name: value for name, value in found.items() if value}
        if not found:
            break
        time.sleep(0.05)
    return found
