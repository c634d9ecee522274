"""`pocketforge bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import RecipePath, cache_option, json_option, print_json
from pipeline.errors import DamagedEntry, RecipeError, StoreError

if TYPE_CHECKING:
    from pipeline.device import Device


@click.command("bench")
@click.argument("what", metavar="RECIPE|FILE", type=RecipePath())
@click.option("--target", "-t", multiple=True, help="Only this target of the recipe (may be given several times).")
@click.option(
    "--inputs", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a model FILE: a .npy of real samples for each input, samples first.",
)  # fmt: skip
@click.option(
    "--device", "-d", multiple=True,
    help="host, emulator (with --profile), or a [[device]] of the recipe.  [default: all of the recipe's, else host]",
)  # fmt: skip
@click.option(
    "--profile", "-p", multiple=True,
    help="Emulate this device profile: a shipped one's name (pocketforge device profiles) or a .toml file.",
)  # fmt: skip
@click.option("--cores", default="", help="Which cluster of the profile: big, mid, little ….  [default: the fastest]")
@click.option(
    "--calibration", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="With --profile: estimate by this file of `pocketforge device calibrate`.  [default: the shipped one]",
)  # fmt: skip
@click.option(
    "--explain", is_flag=True, help="Where the estimated cycles go: the blocks that take most of them, and why."
)
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of the runtime.  [default: recipe's, else 1]")
@click.option("--samples", type=click.IntRange(10), help="At least so many inferences.  [default: recipe's, else 100]")
@click.option("--seconds", type=click.FloatRange(0), help="Seconds at least.  [default: recipe's, else 1]")
@cache_option
@json_option
def command(
    what: Path,
    target: tuple[str, ...],
    inputs: tuple[Path, ...],
    device: tuple[str, ...],
    profile: tuple[str, ...],
    cores: str,
    calibration: Path | None,
    explain: bool,
    threads: int | None,
    samples: int | None,
    seconds: float | None,
    cache: Path,
    as_json: bool,
) -> None:
    """Benchmark a recipe's built targets or a model file, here or on emulated devices.

    The stored files of targets are timed on the host, each in a new process, one after another; on an emulated device
    their instructions are counted, and cycles and latency estimated from them. Results are shown, not stored, and
    judged by nothing.
    """
    from pipeline.benching import bench_file, bench_recipe
    from pipeline.config import load_recipe
    from pipeline.device import HostDevice

    how = {"threads": threads, "min_samples": samples, "min_seconds": seconds}
    recipe = load_recipe(what) if what.suffix == ".toml" else None
    if calibration and not profile:
        raise RecipeError("--calibration is for estimates of a --profile", "a recipe's devices name their own")
    fitted = str(calibration.absolute()) if calibration else ""
    devices = _devices(device, profile, cores, fitted, recipe.devices if recipe else (HostDevice(),))
    if any(d.via == "emulator" for d in devices) and (threads or 1) > 1:
        raise RecipeError(f"counts and estimates of an emulated device are of 1 thread, found --threads {threads}")
    if explain and not any(d.via == "emulator" for d in devices):
        raise RecipeError("--explain is of estimates on emulated devices", "--profile NAME emulates one")

    def say(text: str) -> None:
        click.echo(text, err=True)

    if recipe is not None:
        if inputs:
            raise RecipeError("--inputs is for a model FILE; a recipe's targets run on its own eval samples")
        try:
            results = bench_recipe(recipe, cache, target, how, devices, say)
        except DamagedEntry as damage:
            raise StoreError(damage.message, f"pocketforge build {what} makes it again") from None
    else:
        if target:
            raise RecipeError("--target is for a recipe, not for a model file")
        results = bench_file(what, inputs, how, devices, say)
    if as_json:
        print_json(results)
        return
    from pipeline.report.emulated import show_emulated
    from pipeline.report.terminal import show_bench

    timed = [row for row in results if row["via"] == "host"]
    counted = [row for row in results if row["via"] == "emulator"]
    if timed:
        show_bench(timed)
    if counted:
        show_emulated(counted, explain=explain)


def _devices(
    names: Sequence[str], profiles: Sequence[str], cores: str, calibration: str, known: Sequence[Device]
) -> list[Device]:
    """What --device and --profile ask for, of the recipe's devices where they name one."""
    from pipeline.device import EmulatedDevice, HostDevice
    from pipeline.recipe import suggest

    if not names and not profiles:
        if cores:
            raise RecipeError("--cores is for an emulated device", "--profile NAME emulates one")
        return list(known)
    by_name: dict[str, Device] = {device.name: device for device in known}
    found: list[Device] = []
    for name in names:
        if name == "emulator":
            if not profiles:
                raise RecipeError("--device emulator needs a --profile", "pocketforge device profiles lists them")
        elif name in by_name:
            found.append(by_name[name])
        elif name == "host":
            found.append(HostDevice())
        else:
            raise RecipeError(f"no device is named {name!r}{suggest(name, ['host', 'emulator', *by_name])}")
    for profile in profiles:
        try:
            found.append(EmulatedDevice(profile, cores=cores, calibration=calibration))
        except ValueError as error:
            raise RecipeError(f"--profile {profile}: {error}") from None
    if cores and not profiles:
        raise RecipeError("--cores is for an emulated device", "--profile NAME emulates one")
    return found
