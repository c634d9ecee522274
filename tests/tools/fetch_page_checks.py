"""Fetches what the report's page is looked at with: axe-core and playwright-core, of npm. Prints the folder.

    python tests/tools/fetch_page_checks.py [--where]

What package-lock.json beside look.mjs names, held against its hashes. Chromium and Node.js are the machine's own
(apt_packages.py). Made beside its place and renamed: whole or not there. With --where nothing is fetched: that is where
they would be.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path(__file__).resolve().parent / "page"
FILES = ("package.json", "package-lock.json")


def folder() -> Path:
    """Where they are, or are to be: other versions are another folder."""
    sys.path.insert(0, str(ROOT / "pipeline"))
    from pocketforge.folders import environments_dir

    version = hashlib.sha256((PAGE / "package-lock.json").read_bytes()).hexdigest()[:12]
    return environments_dir() / f"page-checks-{version}"


def fetch(place: Path) -> str:
    """Install them into a folder. Why that was not possible, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return "wanted npm, which is not installed: python tests/tools/apt_packages.py"
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".page-checks-") as made:
        for name in FILES:
            shutil.copyfile(PAGE / name, Path(made, name))
        argv = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
        done = subprocess.run(
            argv, cwd=made, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            return f"npm ci ended with exit code {done.returncode}:\n{done.stderr or done.stdout}"
        if not place.exists():
            shutil.copytree(made, place.with_suffix(".new"), dirs_exist_ok=True)
            place.with_suffix(".new").rename(place)
    return ""


def main() -> int:
    place = folder()
    fault = "" if place.is_dir() or "--where" in sys.argv[1:] else fetch(place)
    if fault:
        print(fault, file=sys.stderr)
        return 1
    print(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
