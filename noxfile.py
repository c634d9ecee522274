"""Everything a developer or a CI runs: `nox` (lint, types, wheel, tests), `nox -s demo`, `nox -s release` …"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "wheel", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PYPROJECT, name)


def python_of_tests() -> str | None:
    """The operating system's Python of the same version, where the one that runs nox was built without profile-guided
    optimization (as pyenv builds them): most of the suite's time is Python's own, and such a one takes a fifth more.
    None: the one that runs nox. (Debian's own does not say how it was built.)
    """
    systems = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if sys.base_prefix == "/usr" or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return None
    whole = "import ctypes, lzma, sqlite3, ssl, venv"  # distributions divide the standard library
    try:
        subprocess.run([systems, "-I", "-c", whole], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return systems


def install_everything(session: nox.Session, *more: str) -> None:
    """The checkout with all three toolchains, the old TFLite runtime that verify also tries, and the ARM emulator."""
    session.install("-e", ".[all]", *more)
    session.run("pocketforge", "device", "setup", "tflite-runtime")
    session.run("pocketforge", "device", "setup", "emulator")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy: ours, strict, and the tests. torch and the toolchains count as Any: theirs are not kept strict upstream."""
    session.install(*group("types"))
    session.run("mypy")
    # A folder at a time: several have a conftest.py.
    folders = {path.parent for path in ROOT.glob("tests/*/*.py")}
    for files in (*([folder] for folder in sorted(folders)), sorted(ROOT.glob("tests/*.py"))):
        session.run("mypy", "--config-file", "tests/mypy.ini", *map(str, files))


@nox.session(python=python_of_tests())
def tests(session: nox.Session) -> None:
    """The whole suite, through the real toolchains. `nox -s tests -- tests/unit` for a part of it."""
    install_everything(session, *group("test"))
    # Programs that only Debian has: a browser.
    session.run("python", "tests/tools/apt_packages.py")
    # What test phones are made of: a real adbd, and a shell and toybox for arm64 and for this machine.
    session.run("python", "tests/tools/fetch_phone.py")
    # A qemu for x86 hosts without this machine's instructions.
    session.run("pocketforge", "device", "setup", "x86-emulator")
    # What the report's page is looked at with, in that browser.
    session.run("python", "tests/tools/fetch_page_checks.py")
    # What reads packed files in apps, and in pages.
    session.run("pocketforge", "device", "setup", "mediapipe")
    session.run("pocketforge", "device", "setup", "web")
    # Three workers on two cores: one is with the phones, which mostly wait. What goes together, and in what order:
    # tests/balance.py (xdist's own order ends with the files of fewest tests, and those build most).
    workers = ("--numprocesses", "3", "--dist", "loadscope", "--no-loadscope-reorder")
    session.run("pytest", *workers, "--cov", "--cov-report=", *session.posargs)
    if not session.posargs:
        session.run("python", "tests/tools/coverage_floors.py")


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: six proven files from the shipped digits model, gated, in build/digits_cnn/release."""
    install_everything(session)
    session.run("pocketforge", "build", "models/digits_cnn/release.toml", "--jobs", "2", "--progress", "plain")


@nox.session
def release(session: nox.Session) -> None:
    """Build every recipe named release.toml under models/."""
    install_everything(session)
    for recipe in sorted(ROOT.glob("models/*/release.toml")):
        session.run("pocketforge", "build", str(recipe), "--jobs", "2", "--progress", "plain", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel into dist/, install it in a clean environment, build a shipped recipe outside the checkout."""
    dist = ROOT / "dist"
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist), silent=True)
    built = max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(f"pocketforge[all] @ {built.resolve().as_uri()}")
    outside = Path(session.create_tmp()).resolve() / "outside"
    outside.mkdir(exist_ok=True)
    # Files of a user's with the names of libraries, and of our own source folder, are imported by nothing of ours.
    for name in ("pipeline", "onnx", "torch", "numpy"):
        (outside / f"{name}.py").write_text("raise SystemExit('imported from the working folder')\n", encoding="utf-8")
    session.chdir(outside)
    session.env["POCKETFORGE_CACHE_DIR"] = str(outside / "cache")
    session.run("python", "-c", "import pocketforge as p; assert 'site-packages' in p.__file__, p.__file__")
    session.run("pocketforge", "docs", "recipe", silent=True)
    # From the wheel's own sources of the runners; the folder is the user's, so that the tests find it made.
    session.run("pocketforge", "device", "setup", "emulator")
    session.run("pocketforge", "build", "shipped:digits_cnn", "--jobs", "2", "--progress", "plain", "--refresh")
    session.chdir(outside / "build" / "digits_cnn" / "release")
    session.run("sha256sum", "--check", "SHA256SUMS", external=True)


@nox.session
def bench_emulated(session: nox.Session) -> None:
    """MobileNetV2's files on four emulated devices: counts, estimates, budgets. `-- RECIPE` for another recipe."""
    install_everything(session)
    recipes = session.posargs or ["models/mobilenet_v2/bench.toml"]
    for recipe in recipes:
        session.run("pocketforge", "build", recipe, "--jobs", "2", "--progress", "plain")


@nox.session
def bench_android(session: nox.Session) -> None:
    """Build releases, run every file on every connected phone, gate. `-- --allow-none` is content without a phone."""
    install_everything(session)
    listed = Path(session.create_tmp()) / "devices.json"
    with listed.open("w", encoding="utf-8") as file:
        session.run("pocketforge", "device", "list", "--json", stdout=file)
    phones = [row for row in json.loads(listed.read_text(encoding="utf-8")) if row["kind"] == "phone"]
    if not any(row["state"] == "ready" for row in phones):
        found = "; ".join(f"{row['name']}: {row['state']}" for row in phones) or "none is connected"
        said = f"no phone to run on: {found} (pocketforge device list says what to do)"
        if "--allow-none" in session.posargs:
            session.skip(said)
        session.error(said)
    recipes = [arg for arg in session.posargs if arg != "--allow-none"]
    for recipe in recipes or sorted(map(str, ROOT.glob("models/*/release.toml"))):
        session.run("pocketforge", "build", recipe, "--device", "adb:all", "--jobs", "2", "--progress", "plain")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speed of our own work, as ratios within one run: overhead over a script, warm rebuild, start-up. How often the
    host's verdicts on latency are wrong (A/A). An epoch."""
    install_everything(session)
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/spread.py")
    session.run("python", "benchmarks/training.py")


@nox.session
def storm(session: nox.Session) -> None:
    """Kills, swaps, mutated and hostile files: what docs/reliability.md says, again. `-- recipes --minutes 5` for a
    part of it; goes on where it stopped (build/storm)."""
    install_everything(session, *group("test"))
    session.run("python", "tests/storm/run.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, in build/site: the guides, and the Python API from its docstrings. A link, a heading
    or a name that is not there fails."""
    session.install(*group("docs"))
    session.run("python", "docs/site_pages.py")
    session.run("zensical", "build", "--strict", "--clean")


@nox.session
def peers(session: nox.Session) -> None:
    """Our channel pruning beside Torch-Pruning's own pruner and torch's: accuracy at equal MACs. Half an hour."""
    install_everything(session)
    session.run("python", "benchmarks/peers.py", *session.posargs)


@nox.session
def stock_recipes(session: nox.Session) -> None:
    """Our int8 files beside the libraries' stock recipes: not below any of them. Ten minutes."""
    install_everything(session)
    session.run("python", "benchmarks/stock_recipes.py", *session.posargs)


@nox.session
def compat(session: nox.Session) -> None:
    """Toolchains as a range: small files built with the oldest tested versions and with the newest, each in a virtual
    environment of its own, and run by the other. Ten minutes. `-- --newest` takes what is newest on the index now."""
    import runpy

    tested = runpy.run_path(str(ROOT / "tests" / "compat" / "versions.py"))["ends_of"](ROOT)
    ends = {"oldest": tested["oldest"], "newest": tested["newest"]}
    if "--newest" in session.posargs:
        ends["newest"] = tested["names"]
    folder = Path(session.create_tmp()).resolve()
    programs = {}
    for end, packages in ends.items():
        session.run("python", "-m", "venv", "--clear", str(folder / end))
        programs[end] = str(folder / end / "bin" / "python")
        install = (programs[end], "-m", "pip", "install", "--quiet")
        session.run(*install, "-e", ".[all]", external=True)
        # Not by their own pins of each other: whether other versions work is what is asked.
        session.run(*install, "--upgrade", "--no-deps", *packages, external=True)
        session.run(programs[end], "tests/compat/run.py", "make", str(folder / f"files-{end}"), external=True)
    for here, there in (("oldest", "newest"), ("newest", "oldest")):
        session.run(programs[here], "tests/compat/run.py", "cross", str(folder / f"files-{there}"), external=True)


@nox.session
def zoo(session: nox.Session) -> None:
    """More than ninety architectures through every runtime, in fp32 and in 8 bits, each trained for a minute. Hours;
    goes on where it stopped (build/zoo). `-- --only NAME` takes some, `-- --record` writes docs/zoo.md anew."""
    install_everything(session, "timm>=1.0", "torchvision==0.28.0", "transformers")
    session.run("python", "tests/zoo/run.py", *session.posargs)


@nox.session
def study(session: nox.Session) -> None:
    """What docs/compression.md says of channels against layers, measured again. More than an hour on 2 cores."""
    install_everything(session)
    out = ("--out", "build/study", *session.posargs)
    session.run("pocketforge", "study", "pruning", "models/resnet_cifar/digits.toml", "--progress", "plain", *out)
