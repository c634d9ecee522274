"""What several test files share. Nothing here imports torch."""

from __future__ import annotations

import compileall
import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from balance import arrange, known, scheduler
from hypothesis import HealthCheck, settings
from left_behind import LeftBehind
from phone_fixtures import adb_server, make_phone, make_shared_phone, phone, phone_parts, shared_phone  # noqa: F401
from release_build import Release, build_once, cold_cache
from rested_coverage import Tracing
from rewritten_asserts import rewrite_once
from seldom_collected import SELDOM
from shared_store import DigitsParts
from warm_server import share, warm_runtimes

# Test machines are shared and slow at times: a slow example says nothing about the code.
settings.register_profile("pocketforge", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pocketforge")

# Workers share the cores: a process of several threads would make all of them wait. Stages that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POCKETFORGE_TRAINING_THREADS", "1")
# What a step of [[compress]] gained is timed in rounds, each of new processes: two give an interval, as wide as it is.
os.environ.setdefault("POCKETFORGE_GAIN_ROUNDS", "2")
# Files are timed in several new processes: the fewest that give an interval, one right after the other.
os.environ.setdefault("POCKETFORGE_BENCH_PROCESSES", "3")

# A shell's background hands down an ignored SIGINT, which every program that a test starts would inherit.
# Undone here and not at each start: what runs between fork and exec warns of JAX's threads, where a test loaded it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--left-behind", action="store_true", help="fail files that leave modules or the process changed")


def pytest_configure(config: pytest.Config) -> None:
    """Programs and fork servers that tests start would each compile the sources anew where Python is told to write no
    bytecode, as containers tell it: a third of such a program's time. (A checkout that cannot be written to stays so.)
    And all workers would rewrite the same asserts.
    """
    if config.getoption("left_behind"):
        config.pluginmanager.register(LeftBehind())
    if "PYTEST_XDIST_WORKER" in os.environ or config.getoption("dist", "no") != "no":
        Tracing(config).stop()
    if "PYTEST_XDIST_WORKER" not in os.environ and not config.option.collectonly:
        for folder in ("pipeline/pocketforge", "android_bench"):
            compileall.compile_dir(ROOT / folder, quiet=2, workers=0)
        if config.getoption("dist", "no") != "no":
            asked = [Path(word.partition("::")[0]).resolve() for word in config.args]
            files = [path for name in ("test_*.py", "conftest.py") for path in TESTS.rglob(name)]
            rewrite_once(config, [path for path in files if any(path.is_relative_to(place) for place in asked)])


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What is imported and collected stays: looking through it again and again for garbage is a sixth of the time here,
    and half a second each time later on."""
    gc.disable()
    try:
        with Tracing(session.config).resting():
            return (yield)
    finally:
        gc.enable()
        gc.set_threshold(*SELDOM)
        keep_what_is_imported()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        arrange(items, known())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    return scheduler(config, log, known()) if config.getvalue("dist") == "loadscope" else None


def computes_in_this_process(item: pytest.Function) -> bool:
    """Whether a test's time goes into torch's and the exporters' own Python, of which the core's rooms are no part."""
    return item.path.parent.name == "contract" or hasattr(item.module, "torch")


_modules_kept = 0


def keep_what_is_imported() -> None:
    """Garbage is not looked for among it any more."""
    global _modules_kept
    _modules_kept = len(sys.modules)
    gc.freeze()


def pytest_runtest_logfinish() -> None:
    """A test may import the toolchains into this process: a million objects that stay."""
    if len(sys.modules) > _modules_kept + 500:
        gc.collect()
        keep_what_is_imported()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage rests where it would cost as much again and see nothing that it counts."""
    if not isinstance(item, pytest.Function) or not computes_in_this_process(item):
        return (yield)
    with Tracing(item.config).resting():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def locks_of_a_worker(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test's figures are looked at: the benchmarks of one worker's tests do not wait for those of another's."""
    os.environ["POCKETFORGE_LOCKS_DIR"] = str(tmp_path_factory.mktemp("locks"))


@pytest.fixture(scope="session", autouse=True)
def server_of_all_workers(run_folder: Path) -> None:
    share(run_folder, run=os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid())


@pytest.fixture(scope="module")
def runtimes_of_all_workers() -> Iterator[None]:
    """For files whose tests run stages or model files in this process itself."""
    with warm_runtimes():
        yield


@pytest.fixture(autouse=True)
def signals_of_a_test() -> Iterator[None]:
    """A command that is interrupted ignores what comes after; programs that later tests start would inherit that."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in before:
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


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
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole run: workers have theirs beside each other in it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def release(run_folder: Path) -> Release:
    """The shipped recipe, built from nothing once in a run. It takes minutes: where a part will do, `digits_parts`."""
    return build_once(run_folder / "shipped")


@pytest.fixture(scope="session")
def digits_parts(run_folder: Path) -> Iterator[DigitsParts]:
    """The shipped model traced, quantized and exported, each once in a run, for tests that only read it."""
    parts = DigitsParts(run_folder / "parts", cold_cache(run_folder / "shipped"))
    yield parts
    parts.check()
