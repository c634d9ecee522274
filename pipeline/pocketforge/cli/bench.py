"""`pocketforge bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import FiniteRange, RecipePath, cache_option, echo, json_option, print_json
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK, DamagedEntry, RecipeError, StoreError

if TYPE_CHECKING:
    from pocketforge.commands.bench_files import File
    from pocketforge.recipe.device import AdbDevice


@click.command("bench")
@click.argument("what", metavar="RECIPE|FILE", type=RecipePath())
@click.option("--target", "-t", multiple=True, help="Only this target of the recipe (may be given several times).")
@click.option(
    "--inputs", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a model FILE: a .npy of real samples for each input, samples first.",
)  # fmt: skip
@click.option(
    "--device", "-d", multiple=True,
    help="host, emulator (with --profile), adb (the phone that is connected), adb:SERIAL, adb:all, or a [[device]] of "
    "the recipe.  [default: all of the recipe's, else host]",
)  # fmt: skip
@click.option(
    "--profile", "-p", multiple=True,
    help="Emulate this device profile: a shipped one's name (pocketforge device profiles) or a .toml file. With "
    "--device adb: which one the phone stands for; what differs is said.",
)  # fmt: skip
@click.option(
    "--cores", default="",
    help="Which cluster: big, mid, little …; of a phone also all, or a list as 4-6,7.  [default: the fastest]",
)  # fmt: skip
@click.option(
    "--calibration", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="With --profile: estimate by this file of `pocketforge device calibrate`.  [default: the shipped one]",
)  # fmt: skip
@click.option(
    "--explain", is_flag=True, help="Where the estimated cycles go: the blocks that take most of them, and why."
)
@click.option(
    "--against", metavar="TARGET|FILE", default="",
    help="On a phone: compare with this target or file in one session, A B B A. PASS when WHAT is not slower.",
)  # fmt: skip
@click.option(
    "--tolerance", type=FiniteRange(0, 1000), default=5.0, show_default=True, metavar="PERCENT",
    help="With --against: how much slower WHAT may be.",
)  # fmt: skip
@click.option(
    "--noise-floor", is_flag=True,
    help="On a phone: compare the file with itself, A/A. How far the two lie apart is kept, and used by its gates.",
)  # fmt: skip
@click.option(
    "--runner", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="On a phone: run the file by this program of yours.  [default: ours, which is pushed]",
)  # fmt: skip
@click.option(
    "--runner-library", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="With --runner: the runtime's library, which is pushed beside it and named to it by --library.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(3, 1000), help="On a phone: so many rounds.  [default: recipe's, else 5]")
@click.option(
    "--processes", type=click.IntRange(3, 1000),
    help="On the host: time each file in so many new processes.  [default: recipe's, else 5]",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the runtime.  [default: recipe's, else 1]")
@click.option(
    "--samples",
    type=click.IntRange(10, 10_000_000),
    help="At least so many inferences in all.  [default: recipe's, else 100]",
)
@click.option(
    "--seconds", type=FiniteRange(0, 86_400),
    help="Seconds at least: on the host in all, on a phone each round.  [default: recipe's, else 0.5; on a phone 1]",
)  # fmt: skip
@cache_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    what: Path,
    target: tuple[str, ...],
    inputs: tuple[Path, ...],
    device: tuple[str, ...],
    profile: tuple[str, ...],
    cores: str,
    calibration: Path | None,
    explain: bool,
    against: str,
    tolerance: float,
    noise_floor: bool,
    runner: Path | None,
    runner_library: Path | None,
    rounds: int | None,
    processes: int | None,
    threads: int | None,
    samples: int | None,
    seconds: float | None,
    cache: Path,
    as_json: bool,
) -> None:
    """Benchmark a recipe's built targets or a model file, here, on emulated devices or on phones.

    The stored files of targets are timed on the host, each in several new processes, one after another; on an emulated
    device their instructions are counted, and cycles and latency estimated from them; on a phone they are timed in
    rounds, and their outputs compared with the host's. Results are shown, not stored, and judged by nothing but
    --tolerance.
    """
    from pocketforge.cli.bench_devices import Asked, chosen_devices, with_options
    from pocketforge.commands.bench import bench_files
    from pocketforge.commands.bench_files import given_file, stored_files
    from pocketforge.facts.processors import check_threads_option
    from pocketforge.measure.ab import MIN_BLOCKS
    from pocketforge.recipe.device import AdbDevice, HostDevice
    from pocketforge.recipe.toml import load_recipe

    recipe = load_recipe(what) if what.suffix == ".toml" else None
    if recipe is not None and inputs:
        raise RecipeError("--inputs is for a model FILE; a recipe's targets run on its own eval samples")
    if recipe is None and target:
        raise RecipeError("--target is for a recipe, not for a model file")
    if calibration and not profile:
        raise RecipeError("--calibration is for estimates of a --profile", "a recipe's devices name their own")
    known = recipe.devices if recipe else (HostDevice(),)
    asked = Asked(device, profile, cores, str(calibration.absolute()) if calibration else "")

    def say(text: str) -> None:
        echo(text, err=True)

    resolve = recipe.resolve if recipe else Path
    devices = chosen_devices(asked, known, say, resolve)
    emulated = any(d.via == "emulator" for d in devices)
    if any(d.via == "host" for d in devices):
        check_threads_option(threads)
    if emulated and (threads or 1) > 1:
        raise RecipeError(f"counts and estimates of an emulated device are of 1 thread, found --threads {threads}")
    if explain and not emulated:
        raise RecipeError("--explain is of estimates on emulated devices", "--profile NAME emulates one")
    options = {"--against": against, "--noise-floor": noise_floor, "--runner": runner, "--rounds": rounds}
    for option, value in options.items():
        if value and not any(d.via == "adb" for d in devices):
            raise RecipeError(f"{option} is for phones", "--device adb is the one that is connected")
    if processes and not any(d.via == "host" for d in devices):
        raise RecipeError("--processes is for the host", "a phone is timed in --rounds")
    if runner_library and not runner:
        raise RecipeError("--runner-library is what a --runner loads")
    if (against or noise_floor) and rounds is not None and rounds < MIN_BLOCKS:
        raise RecipeError(f"a comparison needs {MIN_BLOCKS} rounds or more, found --rounds {rounds}")
    timed = {"threads": threads, "min_samples": samples, "min_seconds": seconds}
    try:
        files = stored_files(recipe, cache, target) if recipe else [given_file(what, inputs)]
        runners = {file.runtime: str(runner.absolute()) for file in files} if runner else None
        libraries = {file.runtime: str(runner_library.absolute()) for file in files} if runner_library else None
        phone_options = timed | {"rounds": rounds, "runners": runners, "runner_libraries": libraries}
        devices = [with_options(device, phone_options) for device in devices]
        if against or noise_floor:
            rival = None
            if against and recipe is not None and against in [t.name for t in recipe.targets]:
                (rival,) = stored_files(recipe, cache, [against])
            elif against:
                rival = given_file(Path(against), files[0].inputs)
            phones = [d for d in devices if isinstance(d, AdbDevice)]
            ctx.exit(_compare(files, rival, phones, tolerance / 100, say, resolve, as_json))
        results = bench_files(files, devices, timed | {"processes": processes}, say, resolve=resolve)
    except DamagedEntry as damage:
        raise StoreError(damage.message, f"pocketforge build {what} makes it again") from None
    if as_json:
        print_json(results)
        return
    from pocketforge.report.emulated import show_emulated
    from pocketforge.report.phones import show_phones
    from pocketforge.report.terminal import show_bench

    by_place = {via: [row for row in results if row["via"] == via] for via in ("host", "emulator", "adb")}
    if by_place["host"]:
        show_bench(by_place["host"])
    if by_place["emulator"]:
        show_emulated(by_place["emulator"], explain=explain)
    if by_place["adb"]:
        show_phones(by_place["adb"])


def _compare(
    files: Sequence[File],
    rival: File | None,
    phones: Sequence[AdbDevice],
    tolerance: float,
    say: Callable[[str], None],
    resolve: Callable[[str], Path],
    as_json: bool,
) -> int:
    """Each file with the rival, or without one with itself, on every phone; shown, and the exit code."""
    from pocketforge.commands.bench_phones import compare_on_phone
    from pocketforge.facts.phones import ready_phones
    from pocketforge.report.phones import show_compared

    ready = ready_phones(phones, resolve)
    compared = [
        compare_on_phone(file, rival or file, device, ready[device.name], tolerance, say)
        for device in phones
        for file in files
    ]
    if as_json:
        print_json(compared)
    else:
        show_compared(compared)
    kept = all(row["same_file"] or row["verdict"] == "PASS" for row in compared)
    return EXIT_OK if kept else EXIT_GATE_FAILED
