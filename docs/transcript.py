"""Put a real run into README.md: `python docs/transcript.py` builds the digits recipe and pastes what it printed."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# Where the emulator is, should it not be in its usual place.
ENVIRONMENTS = {name: os.environ[name] for name in ("POCKETFORGE_ENVIRONMENTS_DIR",) if name in os.environ}


def between(text: str, marker: str, content: str) -> str:
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    assert pattern.search(text), marker
    return pattern.sub(lambda found: f"{found[1]}```\n{content.rstrip()}\n```\n{found[2]}", text)


with tempfile.TemporaryDirectory() as cache:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pocketforge",
            "build",
            "models/digits_cnn/release.toml",
            "--jobs",
            "2",
            "--cache-dir",
            cache,
        ],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "COLUMNS": "110", **ENVIRONMENTS},
        capture_output=True,
        text=True,
        check=False,
    )
if done.returncode != 0:
    sys.exit(done.stdout + done.stderr)
listing = "\n".join(f"{p.stat().st_size:>9,}  {p.name}" for p in sorted((ROOT / "build/digits_cnn/release").iterdir()))
text = between(
    README.read_text(encoding="utf-8"), "transcript", "\n".join(line.rstrip() for line in done.stdout.splitlines())
)
README.write_text(between(text, "files", listing), encoding="utf-8")
