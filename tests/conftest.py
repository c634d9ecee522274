"""What several test files share. Nothing here imports torch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from phone_fixtures import adb_server, make_phone, make_shared_phone, phone, phone_parts, shared_phone  # noqa: F401
from release_build import Release, build_once

# Test machines are shared and slow at times: a slow example says nothing about the code.
settings.register_profile("pocketforge", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pocketforge")

# Two workers share the cores: a process of several threads would make both wait. Stages that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POCKETFORGE_TRAINING_THREADS", "1")
# What a step of [[compress]] gained is timed in rounds, each of new processes: two give an interval, as wide as it is.
os.environ.setdefault("POCKETFORGE_GAIN_ROUNDS", "2")

# A shell's background hands down an ignored SIGINT, which every program that a test starts would inherit.
# Undone here and not at each start: what runs between fork and exec warns of JAX's threads, where a test loaded it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]

SMALL_RECIPE = """\
name = "small"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"

[[target]]
name = "small_onnx_fp32"
runtime = "onnx"
"""

# What takes longest comes first, so that two workers end together. More than a minute each, longest first.
LONGEST = (
    "test_release.py", "test_quantized_builds.py", "test_interruptions.py", "test_store_trouble.py",
    "test_backends.py", "test_tutorials.py", "test_qat_files.py", "test_compressed_builds.py", "test_stages.py",
    "test_transformers_compress.py", "test_phone_builds.py", "test_phone_session.py", "test_phone_interruptions.py",
    "test_phone_models.py", "test_why.py", "test_runtimes.py", "test_mixed.py", "test_qat.py", "test_adb_faults.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture
def repo_root() -> Path:
    return ROOT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own, also for programs that the test starts."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("POCKETFORGE_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def small_recipe_text() -> str:
    """The shortest recipe that is one: a model, its data and one target."""
    return SMALL_RECIPE


@pytest.fixture(scope="session")
def emulator() -> object:
    """What `pocketforge device setup emulator` made. Tests of emulated devices are not skipped: they fail without."""
    from pocketforge.devices.emulator import parts

    return parts.installed()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The shipped recipe, built from nothing once in a run: workers have folders beside each other, and share it."""
    base = tmp_path_factory.getbasetemp()
    return build_once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shipped")
