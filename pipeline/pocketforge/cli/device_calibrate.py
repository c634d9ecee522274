"""`pocketforge device calibrate`: fit the estimate's few constants, and print how far off it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import echo, echo_lines, json_option, print_json

if TYPE_CHECKING:
    from pocketforge.device_calibration.calibrate import Calibrated
    from pocketforge.device_calibration.datasets import Sample
    from pocketforge.device_calibration.published import Published

SHIPPED = "shipped"


@click.command("calibrate")
@click.option(
    "--from", "tables", multiple=True, metavar="CSV",
    help="Measured latencies to fit to; may be repeated. `shipped` is the published ones that come with the package.  "
    "[default: shipped]",
)  # fmt: skip
@click.option(
    "--suite", type=click.Path(path_type=Path), metavar="DIR",
    help="Write the micro-models and a manifest to fill with a phone's latencies, and stop.",
)  # fmt: skip
@click.option("--profile", default="", metavar="NAME", help="Device profile that all rows were measured on.")
@click.option(
    "--adb", "serial", metavar="SERIAL",
    help="With --suite: measure its files on this connected phone and fill the manifest; goes on where it was stopped.",
)  # fmt: skip
@click.option("--cores", default="big", show_default=True, help="With --adb: which cluster of the phone.")
@click.option("--recount", is_flag=True, help="Count every model again with the emulator.")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the calibration here, as pipeline/pocketforge/estimation/calibration.json is.",
)  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@json_option
def command(
    tables: tuple[str, ...],
    suite: Path | None,
    profile: str,
    serial: str | None,
    cores: str,
    recount: bool,
    out: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Fit the latency estimate to measurements.

    Prints the fitted constants of each core type, and the errors on what was not fitted: points held out by hash,
    families and devices left out, next to three simple predictors. To calibrate a phone: --suite DIR --adb SERIAL (or
    by hand: --suite DIR, run each file on one pinned core, fill DIR/manifest.csv), then --from DIR/manifest.csv.
    """
    if serial is not None:
        if suite is None:
            raise click.UsageError("--adb measures the files of a --suite DIR")
        _measure(suite, serial, cores, as_json)
        return
    if suite is not None:
        _write_suite(suite, as_json)
        return
    from pocketforge.device_calibration import tables as printed
    from pocketforge.estimation import calibration_file

    outcome = _fit(tables or (SHIPPED,), profile, recount)
    if out is not None:
        calibration_file.save(outcome.calibration, out)
    if as_json:
        print_json(outcome.to_json())
    else:
        echo_lines(printed.markdown(outcome) if markdown else printed.text(outcome))
    if out is not None:
        echo(f"wrote {out}", err=True)


def _measure(folder: Path, serial: str, cores: str, as_json: bool) -> None:
    from pocketforge.device_calibration.on_phone import measure_suite

    path, left = measure_suite(folder, serial, cores, _news)
    if as_json:
        print_json({"manifest": str(path), "left": left})
        return
    for text in left:
        echo(f"not measured: {text}")
    echo(f"Then: pocketforge device calibrate --from {path} --profile NAME --out FILE")


def _write_suite(folder: Path, as_json: bool) -> None:
    from pocketforge.device_calibration.suite import MANIFEST, write_suite

    written = write_suite(folder)
    if as_json:
        print_json([{"file": f"{m.name}.tflite", "sha256": m.sha256, "input": m.input} for m in written])
        return
    size = sum(len(m.data) for m in written)
    echo(f"{len(written)} files, {size / 1e6:.1f} MB, and {folder / MANIFEST}")
    echo(
        "On the phone: pin one core (taskset), fix its clock if you can, let it cool; for each file 10 warm-up and at "
        "least 50 timed inferences with one thread; write the median to latency_ms, and device, core and GHz."
    )
    echo(f"Then: pocketforge device calibrate --from {folder / MANIFEST} --profile NAME --out FILE")


def _fit(tables: tuple[str, ...], profile: str, recount: bool) -> Calibrated:
    """Cores that a table of the user's measures are fitted on that table alone, all others on the shipped ones."""
    from pocketforge.device_calibration import calibrate, datasets, published, sampling
    from pocketforge.device_calibration.counted import CountStore
    from pocketforge.errors import RecipeError

    jobs: list[tuple[list[Published], Path | None, str]] = []
    own: set[str] = set()
    for table in (name for name in tables if name != SHIPPED):
        measured = sampling.sample(published.read(Path(table)))
        for m in measured:
            if m.usable:
                raise RecipeError(f"{table}: {m.name}: {m.usable}", "measure with one thread, and name the core")
            datasets.place(m, profile)
        own |= {m.core for m in measured}
        jobs.append((measured, Path(table).parent, profile))
    shipped = []
    for m in sampling.sample(published.shipped()):
        reason = datasets.why_not(m) or ("fitted on your measurements instead" if m.core in own else "")
        if not reason:
            shipped.append(m)
        elif m.kind == "model":
            echo(f"left out: {m.name} {m.precision} on {m.device}, {m.core}: {reason}", err=True)
    jobs.append((shipped, None, ""))
    store = CountStore() if recount else CountStore.load(datasets.COUNTS)
    count = None
    if any(datasets.lacking(measured, store, folder) for measured, folder, _ in jobs):
        from pocketforge.device_calibration.emulated import counter

        count = counter()
    samples: list[Sample] = []
    for measured, folder, name in jobs:
        samples += datasets.gather(measured, store, count=count, folder=folder, profile=name, emit=_news)
    return calibrate.calibrate(samples, notes=f"from {', '.join(Path(t).name for t in tables)}")


def _news(line: str) -> None:
    echo(line, err=True)
