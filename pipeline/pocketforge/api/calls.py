"""The functions of `import pocketforge`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pocketforge import events
from pocketforge.api.arguments import within
from pocketforge.api.report import Report, of_build
from pocketforge.errors import RecipeError, StageFailed
from pocketforge.folders import cache_dir, cluster_dir, own_modules

if TYPE_CHECKING:
    from pocketforge.commands.gate import Gated
    from pocketforge.measure.bench_rows import Benched
    from pocketforge.runtimes.describe import Description

PathLike: TypeAlias = "str | os.PathLike[str]"


@own_modules()
def build(
    recipe: PathLike,
    *,
    targets: str | Sequence[str] = (),
    out: PathLike | None = None,
    cache: PathLike | None = None,
    jobs: int = 1,
    refresh: bool = False,
    keep_failed: bool = False,
    phones: str | Sequence[str] = (),
    history: str | None = None,
    remote_store: str | None = None,
    engine: str = "local",
    scheduler: str = "",
    certificates: PathLike | None = None,
    insecure: bool = False,
    progress: bool | Callable[[events.Event], None] = False,
) -> Report:
    """Build, verify, benchmark and gate every target of a recipe: `pocketforge build`.

    What a gate or a stage says is in the report, which is written and given back in any case: ask for `report.passed`.
    `release/` is there only where it passed. ^C ends every process of the build, and what was finished is kept.

    Args:
        recipe: A recipe's path, or `shipped:NAME`.
        targets: Only these of the recipe's. The report then says that the others are not in it.
        out: Folder for `report.json`, `report.html`, `logs/` and `release/`; `build/NAME` in the current folder where
            it is None.
        cache: Where results are stored; POCKETFORGE_CACHE_DIR, else the user's cache folder, where it is None.
        jobs: Lanes to work on at a time, 1 to 64.
        refresh: Run every step again, also those that are stored.
        keep_failed: Where the gate fails, put the files into `failed/` to look at.
        phones: `adb`, `adb:SERIAL` or `adb:all`: run on these too, also where the recipe has no device for them.
        history: Keep the build there, too: `on` (the user's own file), `off`, a file or a URL of PostgreSQL;
            POCKETFORGE_HISTORY where it is None. What keeping it met is in the report's `not_kept`.
        remote_store: URL of a store that is asked before a step is run, and gets what was made; `off`;
            POCKETFORGE_REMOTE_STORE where it is None. Trouble with it is told as events, and fails no build.
        engine: `local`, or `dask`: the workers of a cluster run the steps.
        scheduler: Of that cluster, `tls://HOST:PORT`.
        certificates: The folder of `pocketforge cluster init`; POCKETFORGE_CLUSTER_DIR, else one among the user's data,
            where it is None.
        insecure: Allow `tcp://` off loopback, where anybody on the way can run code on every worker.
        progress: True tells of steps on stderr. A function is called with each event, from the build's threads, one at
            a time; what it raises stops the build, and is raised by `build`.

    Raises:
        pocketforge.errors.RecipeError: The recipe, a name or another argument is wrong.
        pocketforge.errors.ModelError: The model's files or its data are.
        pocketforge.errors.DeviceError: A phone is not there.
        pocketforge.errors.StoreError: The cache or the output folder cannot be used.
        pocketforge.errors.PluginFailed: An installed plug-in cannot be used.
        pocketforge.errors.StageFailed: In a daemonic process (a worker of multiprocessing.Pool). Those of stages are in
            the report's `errors`.
    """
    from pocketforge.api.told import events_told
    from pocketforge.commands.build import build as build_it
    from pocketforge.commands.cluster import Cluster
    from pocketforge.commands.cluster import asked as asked_cluster
    from pocketforge.commands.remote import request_of
    from pocketforge.history.places import asked
    from pocketforge.recipe.shipped import recipe_path
    from pocketforge.recipe.toml import load_recipe
    from pocketforge.run import stage_server

    within("jobs", jobs, 1, 64, whole=True)
    if multiprocessing.current_process().daemon:
        raise StageFailed(
            "a build starts processes, and this one is daemonic, which may start none",
            "call it in the program itself, or in a worker of concurrent.futures.ProcessPoolExecutor",
        )
    folder = cluster_dir() if certificates is None else Path(certificates)
    cluster = asked_cluster(engine, Cluster(scheduler, folder, insecure))
    loaded = load_recipe(recipe_path(os.fspath(recipe)))
    with stage_server.current().in_use(), events_told(progress) as emit:
        built = build_it(
            loaded,
            cache=_cache(cache),
            out=Path("build", loaded.name) if out is None else Path(out),
            targets=_several(targets),
            jobs=jobs,
            refresh=refresh,
            keep_failed=keep_failed,
            phones=_several(phones),
            history=asked(history),
            remote=request_of(remote_store),
            cluster=cluster,
            emit=emit,
        )
    return of_build(built)


@own_modules()
def load_report(path: PathLike) -> Report:
    """A report from its `report.json`, or from the folder that this is in.

    Raises:
        pocketforge.errors.RecipeError: There is none, it is not one, or of a later version.
    """
    from pocketforge.report.files import load_report as load
    from pocketforge.report.files import report_file
    from pocketforge.results.output_folder import CHECKPOINT, PAGE, RELEASE

    file = report_file(Path(path))
    record = load(file)
    page, release, checkpoint = (
        found if (found := file.parent / name).exists() else None for name in (PAGE, RELEASE, CHECKPOINT)
    )
    # Of a report that did not pass it is another build's.
    return Report(record, file, page, release if record.verdict == "PASS" else None, checkpoint)


@own_modules()
def gate(
    report: Report | PathLike,
    recipe: PathLike | None = None,
    *,
    runs: Report | PathLike | Sequence[Report | PathLike] = (),
) -> Gated:
    """Judge a report by its own budgets, or by those of another recipe: `pocketforge gate`.

    Args:
        report: A report, or where one is.
        recipe: Whose budgets; the report's own verdicts where it is None.
        runs: With `recipe`, reports of other runs of the same files, for budgets with a baseline.

    Raises:
        pocketforge.errors.RecipeError: A report, the recipe or a baseline cannot be read; `runs` without `recipe`.
    """
    from pocketforge.commands.gate import gate as judge
    from pocketforge.recipe.shipped import recipe_path
    from pocketforge.recipe.toml import load_recipe
    from pocketforge.report.files import shown

    if recipe is None and runs:
        raise RecipeError("runs are for the budgets of a recipe: a report's own verdicts are made")
    judged = _report(report)
    asked = None if recipe is None else load_recipe(recipe_path(os.fspath(recipe)))
    further = [_report(each).record for each in _listed(runs)]
    with contextlib.nullcontext() if judged.path is None else shown(judged.path):
        return judge(judged.record, asked, further)


@own_modules()
def bench(
    what: PathLike,
    *,
    targets: str | Sequence[str] = (),
    inputs: PathLike | Sequence[PathLike] = (),
    devices: str | Sequence[str] = (),
    profiles: str | Sequence[str] = (),
    cores: str = "",
    calibration: PathLike | None = None,
    explain: bool = False,
    what_if: str = "",
    clock_ghz: float | None = None,
    against: str = "",
    tolerance: float = 0.05,
    noise_floor: bool = False,
    runner: PathLike | None = None,
    runner_library: PathLike | None = None,
    rounds: int | None = None,
    processes: int | None = None,
    threads: int | None = None,
    samples: int | None = None,
    seconds: float | None = None,
    cache: PathLike | None = None,
    progress: bool | Callable[[str], None] = False,
) -> Benched:
    """Benchmark a recipe's built targets or a model file: `pocketforge bench`, whose options these are.

    Args:
        what: A recipe, `shipped:NAME`, or a model file.
        targets: Only these of the recipe's.
        inputs: For a model file: a .npy of real samples for each input, samples first.
        devices: `host`, `emulator` (with `profiles`), `adb`, `adb:SERIAL`, `adb:all`, or a device of the recipe; all
            of the recipe's, else the host, where none is named.
        profiles: Profiles of devices to emulate, or the one that a phone stands for.
        cores: Which cluster; the fastest where it is empty.
        calibration: File of `pocketforge device calibrate` to estimate by.
        explain: Also say where the estimated cycles go.
        what_if: Also estimate a change: `width=0.75` is every layer at three quarters of its channels.
        clock_ghz: Also estimate cores of this clock.
        against: On a phone: the target or the file to compare with.
        tolerance: With `against`: how much slower it may be, as a share.
        noise_floor: On a phone: compare the file with itself.
        runner: On a phone: a program of yours that runs the file.
        runner_library: The library that this loads.
        rounds: On a phone, 3 or more.
        processes: On the host, 3 or more.
        threads: Of the runtime.
        samples: At least so many inferences in all.
        seconds: At least so many: on the host in all, on a phone in each round.
        cache: As of `build`.
        progress: True tells on stderr what is at work; a function is called with each line.

    Raises:
        pocketforge.errors.RecipeError: The file, an option or a name is wrong, or a target is not built.
        pocketforge.errors.StageFailed: A file does not load or run.
        pocketforge.errors.DeviceError: A device is not there, or could not do it.
    """
    from pocketforge.api.told import lines_told
    from pocketforge.commands.bench import bench as bench_it
    from pocketforge.commands.bench_request import BenchRequest
    from pocketforge.recipe.shipped import recipe_path

    within("rounds", rounds, 3, 1000, whole=True)
    within("processes", processes, 3, 1000, whole=True)
    within("threads", threads, 1, 1024, whole=True)
    within("samples", samples, 10, 10_000_000, whole=True)
    within("seconds", seconds, 0, 86_400)
    within("clock_ghz", clock_ghz, 0, 10)
    within("tolerance", tolerance, 0, 10)
    request = BenchRequest(
        what=recipe_path(os.fspath(what)),
        targets=_several(targets),
        inputs=tuple(map(Path, _listed(inputs))),
        devices=_several(devices),
        profiles=_several(profiles),
        cores=cores,
        calibration=_absolute(calibration),
        explain=explain,
        what_if=what_if,
        clock_ghz=clock_ghz,
        against=against,
        tolerance=tolerance,
        noise_floor=noise_floor,
        runner=_absolute(runner),
        runner_library=_absolute(runner_library),
        rounds=rounds,
        processes=processes,
        threads=threads,
        min_samples=samples,
        min_seconds=seconds,
    )
    return bench_it(request, _cache(cache), lines_told(progress))


@own_modules()
def inspect(file: PathLike) -> Description:
    """What is in a `.pte`, `.tflite`, `.onnx` or `.ort` file, which is read, not run: `pocketforge inspect`.

    Raises:
        pocketforge.errors.ModelError: There is no such file, or it is damaged or of no known format.
        pocketforge.errors.ToolMissing: What reads the format is not installed.
    """
    from pocketforge.runtimes.describe import describe

    return describe(Path(file))


def _report(report: Report | PathLike) -> Report:
    return report if isinstance(report, Report) else load_report(report)


def _several(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


def _listed(given: Report | PathLike | Sequence[Report | PathLike]) -> Sequence[Any]:
    """One is a list of one: a path's letters are none."""
    return (given,) if isinstance(given, Report | str | os.PathLike) else given


def _absolute(path: PathLike | None) -> str:
    return "" if path is None else str(Path(path).absolute())


def _cache(folder: PathLike | None) -> Path:
    return cache_dir() if folder is None else Path(folder).expanduser().absolute()
