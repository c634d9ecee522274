"""What runs files as a web page does: packages of npm in a folder of their own, this machine's Node.js and Chromium."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import ToolFailed, ToolMissing
from pocketforge.folders import environments_dir

# The programs that run in a page, what starts the browser, and the packages that they need, with their lock.
PROGRAMS = Path(__file__).parents[1] / "runtimes" / "consumers" / "web"
LEAST_NODE = 18
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class WebEnvironment:
    """Packages of npm, as package-lock.json names them; like `environments.Environment` else.

    Attributes:
        name: As `device setup` takes it.
        programs: The folder with package.json and package-lock.json.
    """

    name: str
    programs: Path

    @property
    def version(self) -> str:
        """Of the lock: other packages are another environment."""
        return hashlib.sha256((self.programs / "package-lock.json").read_bytes()).hexdigest()[:12]

    @property
    def packages(self) -> Mapping[str, str]:
        """Name → version of those that we ask for."""
        pinned: dict[str, str] = json.loads((self.programs / "package.json").read_text(encoding="utf-8"))[
            "dependencies"
        ]
        return pinned

    @property
    def requirements(self) -> tuple[str, ...]:
        """The packages as npm writes them."""
        return tuple(f"{name}@{version}" for name, version in self.packages.items())

    @property
    def folder(self) -> Path:
        """Where they are."""
        return environments_dir() / f"{self.name}-{self.version}"

    @property
    def modules(self) -> Path:
        """The folder that names of modules are looked up in."""
        return self.folder / "node_modules"

    @property
    def ready(self) -> bool:
        """Whether it was set up."""
        return (self.folder / "ready").is_file()

    @property
    def words(self) -> str:
        """Its packages and the browser that they run in, or `none`: part of keys."""
        if not self.ready or _found() is None:
            return "none"
        return f"{self.name} {self.version}, {chromium_version()}"

    def setup(self) -> Path:
        """Install them; returns their folder. Does nothing when they are there. Raises ToolFailed, ToolMissing."""
        if self.ready:
            return self.modules
        _program("npm", "npm")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(self.programs / name, self.folder / name)
        argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            hint = "the npm registry must be reachable for this one command"
            raise ToolFailed(argv, done.returncode, done.stderr or done.stdout, hint=hint)
        (self.folder / "ready").touch()
        return self.modules


WEB = WebEnvironment("web", PROGRAMS)


def node() -> Path:
    """Node.js. Raises ToolMissing where it is not installed, or too old."""
    program = _program("node", "nodejs")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False)
    found = done.stdout.strip().removeprefix("v")
    if done.returncode != 0 or not found.partition(".")[0].isdigit() or int(found.partition(".")[0]) < LEAST_NODE:
        raise ToolMissing(f"wanted Node.js {LEAST_NODE} or newer, found {found or 'none that runs'}", "install another")
    return program


def chromium() -> Path:
    """The browser. Raises ToolMissing."""
    program = _found()
    if program is None:
        raise ToolMissing(
            f"web consumers run in Chromium, and none is installed (looked for {', '.join(_CHROMIUM)})",
            "apt-get install chromium, or what your system has instead",
        )
    return program


def chromium_version() -> str:
    """`Chromium X`. Raises ToolMissing, ToolFailed."""
    program = chromium()
    return _version_of(program, program.resolve().stat().st_mtime_ns)


@functools.cache
def _version_of(program: Path, changed_ns: int) -> str:
    """changed_ns: when the program was written, for it may be another one by now."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False)
    words = done.stdout.split()
    if done.returncode != 0 or not words:
        raise ToolFailed([str(program), "--version"], done.returncode, done.stderr)
    return " ".join(words[: next((at for at, word in enumerate(words) if word[0].isdigit()), 0) + 1])


def _found() -> Path | None:
    return next((Path(found) for name in _CHROMIUM if (found := shutil.which(name))), None)


def _program(name: str, package: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"wanted {name}, which is not installed", f"apt-get install {package}, or from nodejs.org")
    return Path(found)
