"""`pocketforge device`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from pocketforge.cli import device_calibrate, device_doctor, device_phone, device_profiles
from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import PocketforgeError, RecipeError


@click.group("device")
def command() -> None:
    """List and set up what model files run on."""


command.add_command(device_profiles.command, "profiles")
command.add_command(device_phone.show)
command.add_command(device_phone.watch)
command.add_command(device_doctor.command)


@command.command("list")
@json_option
def list_devices(as_json: bool) -> None:
    """List what files can run on here, and connected phones.

    Each with its state, and what to do where it cannot be used.
    """
    rows = [*_places(), *_phones()]
    if as_json:
        # Only phones have a problem of their own beside their state.
        print_json([{k: v for k, v in dataclasses.asdict(row).items() if v is not None} for row in rows])
        return
    for row in rows:
        echo(f"{row.name:<16} {row.kind:<12} {row.state}")
        echo(f"{'':<16} {row.what}")


@dataclass(frozen=True)
class Place:
    """What files can run on, and whether they can now.

    Attributes:
        name: As commands take it; a phone's serial.
        kind: What it is: "device", "environment", "phone"; "phones" where there is none.
        state: "ready", or what is in the way and what to do.
        what: Where or which it is.
        problem: A phone's, in a word; "" when ready. None for everything else.
        fix: What to do about the problem. None for everything else.
    """

    name: str
    kind: str
    state: str
    what: str
    problem: str | None = None
    fix: str | None = None


def _places() -> Iterator[Place]:
    """The host, and what `device setup` sets up."""
    from pocketforge.devices.emulator import parts
    from pocketforge.devices.environments import ENVIRONMENTS
    from pocketforge.devices.x86 import qemu
    from pocketforge.facts.gather import host_identity

    yield Place("host", "device", "ready", host_identity())
    for name, each in ENVIRONMENTS.items():
        state = "ready" if each.ready else f"not set up: pocketforge device setup {name}"
        yield Place(name, "environment", state, f"{', '.join(each.requirements)} in {each.folder}")
    try:
        what = f"ARM CPUs by qemu {parts.installed().qemu_version}, in {parts.emulator_folder()}"
        yield Place("emulator", "device", "ready", what)
    except PocketforgeError as error:
        missing = f"{error.message}: {error.hint}"
        yield Place("emulator", "device", missing, f"ARM CPUs, in {parts.emulator_folder()}")
    try:
        part = qemu.installed()
        yield Place(qemu.NAME, "device", "ready", f"x86 hosts by qemu {part.version}, in {part.folder}")
    except PocketforgeError as error:
        yield Place(qemu.NAME, "device", f"{error.message}: {error.hint}", f"x86 hosts, in {qemu.folder()}")


def _phones() -> list[Place]:
    """Those that adb knows of, by serial; or one row that says why there are none."""
    from pocketforge.devices import phones

    try:
        listed = phones.list_phones()
    except PocketforgeError as error:
        return [Place("adb", "phones", f"no phones: {error.message}", error.hint)]
    if not listed:
        how = "plug one in with USB debugging on (Settings > Developer options), or: adb connect HOST:PORT"
        return [Place("adb", "phones", "no phones are connected", how)]
    return [
        Place(
            name=phone.serial,
            kind="phone",
            state=f"{phone.problem}: {phone.fix}" if phone.problem else "ready",
            what=phone.about.get("model", "").replace("_", " ") or "of unknown model",
            problem=phone.problem,
            fix=phone.fix,
        )
        for phone in listed
    ]


@command.command("setup")
@click.argument("name")
@click.option(
    "--from", "given", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="emulator, x86-emulator: take its packages from this folder, and nothing from the network.",
)  # fmt: skip
@click.option("--refresh", is_flag=True, help="emulator, x86-emulator: fetch and make every part again.")
def setup(name: str, given: Path | None, refresh: bool) -> None:
    """Set up what is not installed with Pocketforge. Needs the package index, or --from.

    NAME is `emulator`, ARM CPUs to run and count on: qemu-aarch64 (yours, or a Debian package's), the arm64 C and C++
    libraries, the runtimes' own arm64 libraries, and small runners compiled here. Nothing needs root and nothing is
    installed; all of it lies in one folder, which is printed. What was fetched is kept in its downloads folder, which
    --from takes on a machine without network.

    Or NAME is `x86-emulator`, other x86 hosts to compare outputs with: qemu-x86_64 (yours, or a Debian package's),
    under which this environment's own Python and runtimes run.

    Or NAME is `tflite-runtime`: the last release under that name, which apps still ship. A build verifies .tflite
    files with it too, once it is set up.

    Or NAME is `mediapipe`: MediaPipe Tasks, for targets that name it among their `consumers`.

    Or NAME is `web`: LiteRT.js, onnxruntime-web and what starts a browser, for the same. From the npm registry, by npm.
    """
    from pocketforge.devices.environments import ENVIRONMENTS

    if name == "emulator":
        _setup_emulator(given, refresh)
    elif name == "x86-emulator":
        from pocketforge.devices.x86 import qemu

        echo(qemu.setup(lambda text: echo(text, err=True), given=given, refresh=refresh))
    elif name not in ENVIRONMENTS:
        known = ", ".join((*ENVIRONMENTS, "emulator", "x86-emulator"))
        raise RecipeError(f"nothing named {name!r} can be set up", f"known: {known}")
    elif given is not None or refresh:
        raise click.UsageError("--from and --refresh are for the emulators")
    else:
        each = ENVIRONMENTS[name]
        echo(f"setting up {', '.join(each.requirements)} in {each.folder}", err=True)
        echo(each.setup())


def _setup_emulator(given: Path | None, refresh: bool) -> None:
    from pocketforge.devices.emulator import parts, provision

    provision.setup(lambda text: echo(text, err=True), given=given, refresh=refresh)
    echo(parts.emulator_folder())


command.add_command(device_calibrate.command)
