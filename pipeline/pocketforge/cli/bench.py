"""`pocketforge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import FiniteRange, RecipePath, cache_option, echo, json_option, print_json
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK

if TYPE_CHECKING:
    from pocketforge.measure.bench_rows import Benched


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
    "--explain", is_flag=True,
    help="Where the estimated cycles go: layer by layer, then the blocks that take most of them, and why.",
)  # fmt: skip
@click.option(
    "--what-if", default="", metavar="width=FACTOR",
    help="With --profile: also estimate every layer at this part of its channels, 0.25 to 2, before it is built.",
)  # fmt: skip
@click.option(
    "--clock", type=FiniteRange(0.1, 10), metavar="GHZ", help="With --profile: also estimate cores of this clock."
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
    what_if: str,
    clock: float | None,
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
    from pocketforge.api.calls import bench

    benched = bench(
        what,
        targets=target,
        inputs=inputs,
        devices=device,
        profiles=profile,
        cores=cores,
        calibration=calibration,
        explain=explain,
        what_if=what_if,
        clock_ghz=clock,
        against=against,
        tolerance=tolerance / 100,
        noise_floor=noise_floor,
        runner=runner,
        runner_library=runner_library,
        rounds=rounds,
        processes=processes,
        threads=threads,
        samples=samples,
        seconds=seconds,
        cache=cache,
        progress=lambda text: echo(text, err=True),
    )
    if as_json:
        print_json(benched.to_json())
    else:
        _show(benched, explain)
    ctx.exit(EXIT_OK if benched.passed else EXIT_GATE_FAILED)


def _show(benched: Benched, explain: bool) -> None:
    from pocketforge.report.bench import show_rows
    from pocketforge.report.phones import show_compared

    show_rows(benched.rows, explain=explain)
    show_compared(benched.compared)
