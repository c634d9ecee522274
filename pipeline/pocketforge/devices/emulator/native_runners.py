"""What the registry says of the program that runs a runtime's files on ARM cores, emulated and of phones."""

from __future__ import annotations

from pocketforge.errors import DeviceError
from pocketforge.registries import NativeRunner, native_of, native_sessions, runtime_of


def native_runner(session: str) -> NativeRunner:
    """Of the runtime whose files `session` opens. Raises DeviceError for one that runs on no ARM core."""
    native = native_of(session)
    if native is None:
        names = ", ".join(native_sessions())
        raise DeviceError(f"the emulator has no runner for {named(session)}", f"it runs files of {names}")
    return native


def named(session: str) -> str:
    """What to call a session: the runtime, where it is a module of a plug-in's."""
    return runtime_of(session) if "." in session else session
