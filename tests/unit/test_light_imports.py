"""Starting up stays light: what a command does not need is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import releases

from pocketforge.release import keys
from pocketforge.release.sign import sign_release

HEAVY = {
    "torch",
    "numpy",
    "sklearn",
    "optuna",
    "scipy",
    "PIL",
    "torchao",
    "executorch",
    "litert_torch",
    "ai_edge_litert",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "ruptures",
    "fsspec",
    "sshfs",
    "asyncssh",
    "s3fs",
    "botocore",
    "distributed",
    "dask",
}


def imported_by(repo_root: Path, *arguments: str) -> set[str]:
    """The top-level modules that a Python program imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=repo_root,
        env={k: v for k, v in os.environ.items() if not k.startswith(("POCKETFORGE", "COV_", "PYTHONSTARTUP"))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "os" in modules
    return modules


def test_the_check_sees_what_is_imported(repo_root: Path) -> None:
    assert {"pocketforge", "numpy"} <= imported_by(repo_root, "-c", "import pocketforge.metrics")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["build", "--help"], ["cache", "--help"], ["--version"]], ids=" ".join
)
def test_help_imports_nothing_heavy(repo_root: Path, arguments: list[str]) -> None:
    modules = imported_by(repo_root, "-m", "pocketforge", *arguments)
    assert "click" in modules
    assert modules & (HEAVY | {"rich", "cattrs"}) == set()


@pytest.mark.parametrize(
    "module",
    [
        "plan.lanes",
        "recipe.toml",
        "run.walk",
        "run.store",
        "commands.build",
        "facts.gather",
        "results.gate",
        "results.release",
        "commands.check",
        "run.worker",
        "stages",
        "runtimes",
    ],
)
def test_the_core_imports_nothing_heavy(repo_root: Path, module: str) -> None:
    modules = imported_by(repo_root, "-c", f"import pocketforge.{module}")
    assert "pocketforge" in modules
    assert modules & (HEAVY | {"rich", "click"}) == set()


@pytest.mark.parametrize("module", ["plan.lanes", "results.gate", "records", "stats", "run.walk", "run.store"])
def test_only_config_imports_cattrs(repo_root: Path, module: str) -> None:
    assert "cattrs" not in imported_by(repo_root, "-c", f"import pocketforge.{module}")


def test_a_release_is_verified_without_toolchains_and_network(repo_root: Path, tmp_path: Path) -> None:
    """On a machine that has nothing but the release, the key and what the command line itself needs."""
    release, pair = releases.write(tmp_path), releases.make_keys(tmp_path)
    sign_release(release, *keys.signer_of_file(pair.private))
    no_network = (
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    assert not event.startswith('socket.'), event\n"
        "sys.addaudithook(refuse)\n"
        "from pocketforge.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ("-c", no_network, "verify-release", str(release), "--key", str(pair.public))
    modules = imported_by(repo_root, *arguments)
    assert "cryptography" in modules and modules & (HEAVY | {"rich"}) == set()


def test_planning_a_recipe_imports_no_torch(repo_root: Path, tmp_path: Path, small_recipe_text: str) -> None:
    (tmp_path / "recipe.toml").write_text(small_recipe_text)
    (tmp_path / "model.py").write_text("def build(): raise AssertionError('planning runs no code of the user')\n")
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    code = (
        "import sys; from pathlib import Path\n"
        "from pocketforge.recipe.toml import load_recipe; from pocketforge.facts.gather import gather\n"
        "from pocketforge.plan.lanes import make_plan\n"
        "recipe = load_recipe(Path(sys.argv[1])); assert make_plan(recipe, gather(recipe)).steps\n"
    )
    modules = imported_by(repo_root, "-c", code, str(tmp_path / "recipe.toml"))
    assert modules & {"torch", "sklearn", "onnx", "executorch"} == set()
