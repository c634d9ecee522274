"""The qemu-x86_64 that plays other x86 hosts: `pocketforge device setup x86-emulator`, and finding it again.

Nothing else is needed: what runs in it is this environment's own Python with its own wheels. Debian's package is the
one that the ARM emulator's qemu comes in, so its kept copy serves both.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pocketforge import events
from pocketforge.devices.emulator import manifest, parts, provision, qemu_binary
from pocketforge.devices.emulator.manifest import Part
from pocketforge.devices.emulator.packages import Packages
from pocketforge.devices.emulator.parts import OWN, QEMU
from pocketforge.errors import DeviceUnavailable, PocketforgeError
from pocketforge.files import explain_os_error, hash_file
from pocketforge.folders import environments_dir

FORMAT = 1
NAME = "x86-emulator"
SETUP = f"pocketforge device setup {NAME}"
_GUEST: qemu_binary.Guest = "x86_64"


def folder() -> Path:
    """Where the program is, unless it is the user's own."""
    return environments_dir() / f"{NAME}-{FORMAT}"


def installed(*, deep: bool = False) -> Part:
    """The program, with its version and hash; `deep` reads it whole. Raises DeviceUnavailable with what to run."""
    chosen = qemu_binary.chosen(_GUEST)
    if chosen is not None:
        return parts.qemu_part(qemu_binary.examine_chosen(chosen, _GUEST))
    try:
        part = (manifest.read(folder()) or {}).get(QEMU)
    except (OSError, ValueError) as error:
        raise DeviceUnavailable(f"the x86 emulator cannot be used: {error}", f"make it again: {SETUP}") from None
    if part is None:
        raise DeviceUnavailable("no qemu-x86_64 is set up on this machine", f"set it up: {SETUP}")
    trouble = manifest.trouble(part, deep=deep)
    if trouble and part.origin == OWN:
        return parts.upgraded(part.path(QEMU), _GUEST, of="the x86 emulator", setup=SETUP)
    if trouble:
        raise DeviceUnavailable(f"the x86 emulator's qemu: {trouble}", f"repair it: {SETUP}")
    return part


def setup(emit: events.Say, *, given: Path | None = None, refresh: bool = False) -> Path:
    """Make the program ready and return its path; does nothing when it is.

    given: a folder of Debian packages, asked instead of the network. refresh: fetch it again. Raises DeviceUnavailable,
    ToolMissing, ToolFailed, StoreError.
    """
    root, shared = folder(), parts.emulator_folder()
    try:
        for place in (root, shared / "downloads"):
            place.mkdir(parents=True, exist_ok=True)
        # Of the ARM emulator's folder: the packages that it keeps are kept once.
        with provision.alone(shared, emit):
            part = None if refresh else _ready()
            if part is None:
                part = _make(root, shared, emit, given, refresh)
                manifest.write(root, {QEMU: part})
    except OSError as error:
        raise explain_os_error(error, root, "POCKETFORGE_ENVIRONMENTS_DIR") from error
    emit(f"ready: qemu-x86_64 {part.version}")
    return part.path(QEMU)


def _ready() -> Part | None:
    try:
        return installed(deep=True)
    except DeviceUnavailable:
        return None


def _make(root: Path, shared: Path, emit: events.Say, given: Path | None, refresh: bool) -> Part:
    chosen = qemu_binary.chosen(_GUEST)
    if chosen is not None:
        return parts.qemu_part(qemu_binary.examine_chosen(chosen, _GUEST))
    own, passed_over = qemu_binary.on_path(_GUEST)
    if own is not None:
        return parts.qemu_part(own)
    with tempfile.TemporaryDirectory(dir=root, prefix="tmp-") as scratch:
        work = Path(scratch) / "part"
        work.mkdir()
        packages = Packages(shared / "downloads", Path(scratch), emit, given, refresh, SETUP)
        program, deb = qemu_binary.from_packages(packages, work, passed_over, _GUEST)
        target = root / "qemu"
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    origin = f"deb {deb.name} sha256:{hash_file(deb)}"
    return Part(QEMU, program.version, origin, "", target, {QEMU: program.path.name}, manifest.look_at_folder(target))


def examine() -> Iterator[tuple[str, str, str, str]]:
    """A row for doctor, as provision.examine gives them."""
    set_up = qemu_binary.chosen(_GUEST) is not None or (folder() / manifest.MANIFEST).exists()
    try:
        part = installed(deep=True)
        yield "x86 hosts", "ok", f"qemu-x86_64 {part.version} in {part.folder}", SETUP
    except PocketforgeError as error:
        words = error.message if set_up else "not set up: no x86 host without this machine's kernels can be played"
        yield "x86 hosts", "missing" if set_up else "optional", words, SETUP
