"""A program on the phone that goes on when the link drops: started in the background, its output in files, polled.

FOLDER/runs/N holds pid (of the shell around the program), child (the program), out, err, cpus (which it may run on) and
at its end rc. While a program is timed the phone is asked as little as possible: at growing intervals, by the shell's
own builtins.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from android_bench.errors import (
    BadCores,
    CommandMissing,
    LinkLost,
    NotExecutable,
    PhoneError,
    PhoneTimeout,
    RunnerFailed,
    WrongAbi,
)
from android_bench.pinning import as_list, mask
from android_bench.texts import cpu_list
from android_bench.workplace import Workplace

# How long a phone may be out of reach while a program runs on it.
RECONNECT_S = 120.0
_FIRST_POLL_S, _LONGEST_POLL_S, _GROWTH = 0.2, 5.0, 1.5
# From the start of the shell to its first word; a phone under load takes its time.
_START_S = 20.0
_RETRY_S = 10.0
_MASK_FAILED = "pin"
# What is read by a shell command; more is pulled.
_SHORT_BYTES = 1 << 20
_ENDS = {
    132: (
        "ended on an illegal instruction (SIGILL)",
        "it uses instructions that these cores lack; build it for the phone's processor",
    ),
    134: ("aborted (SIGABRT)", ""),
    135: ("crashed (bus error, SIGBUS)", ""),
    136: ("crashed (arithmetic error, SIGFPE)", ""),
    137: (
        "was killed (SIGKILL)",
        "Android ends programs so when memory runs out: close apps, use a smaller model, or restart the phone",
    ),
    139: ("crashed (segmentation fault, SIGSEGV)", ""),
    143: ("was ended by somebody (SIGTERM)", ""),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. cpus: which it was seen to be allowed to run on, at its start and at every later look.

    online: the phone's CPUs that were on when it had ended; empty when unknown.
    """

    code: int
    stdout: str
    stderr: str
    pid: int | None
    cpus: tuple[tuple[int, ...], ...]
    online: tuple[int, ...]


def run_detached(
    place: Workplace,
    argv: Sequence[str],
    *,
    folder: str,
    cpus: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    reconnect_s: float = RECONNECT_S,
    what: str = "the runner",
    keep_stderr: bool = True,
) -> Ended:
    """Run words in a folder of the phone, pinned to `cpus` (none: wherever Android likes), and wait for the end.

    keep_stderr: fetch it in any case, and not only after a failure.

    Raises RunnerFailed (killed or crashed), PhoneTimeout (not done in time: it is ended on the phone), BadCores,
    CommandMissing (no taskset), NotExecutable and WrongAbi; LinkLost and its like when the phone stays out of reach for
    `reconnect_s`; Rebooted and SessionGone. An exit code of the program's own is no error here.
    """
    number = place.new_run()
    run = place.path(f"runs/{number}")
    _start(place, run, _script(run, argv, folder, cpus, environment or {}))
    code, pid, seen = _wait(place, run, cpus, timeout_s, reconnect_s, what)
    _check_code(code, place, run, what)
    stdout, online = _fetch(place, run)
    return Ended(code, stdout, _pulled(place, f"{run}/err") if code or keep_stderr else "", pid, seen, online)


def _script(run: str, argv: Sequence[str], folder: str, cpus: Sequence[int], environment: Mapping[str, str]) -> str:
    """What runs on the phone. The program inherits the shell's CPUs: it is pinned from its first moment."""
    lines = [
        "trap '' HUP",
        "umask 077",
        f"echo $$ >{run}/pid.draft && mv {run}/pid.draft {run}/pid",
        f"exec >{run}/out 2>{run}/err",
        f"cd {shlex.quote(folder)} || exit",
        # Some phones set these for their shell; a runner must load what lies beside it.
        "unset LD_PRELOAD LD_LIBRARY_PATH",
        *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
    ]
    if cpus:
        failed = f"{{ echo {_MASK_FAILED} $? >{run}/rc.draft; mv {run}/rc.draft {run}/rc; exit; }}"
        lines.append(f"taskset -p {mask(cpus)} $$ >/dev/null || {failed}")
    lines += [
        f"{shlex.join(argv)} </dev/null &",
        "child=$!",
        f"echo $child >{run}/child",
        "while read -r key value; do",
        f'  [ "$key" != Cpus_allowed_list: ] || echo "$value" >{run}/cpus',
        "done </proc/$child/status",
        "wait $child",
        f"echo $? >{run}/rc.draft",
        f"mv {run}/rc.draft {run}/rc",
    ]
    return "\n".join(lines)


def _start(place: Workplace, run: str, script: str) -> None:
    """Once, however often it is asked: the answer to an earlier try may have been lost."""
    quoted = shlex.quote(script)
    place.run(
        f"umask 077; mkdir {run} 2>/dev/null || exit 0\nsetsid nohup sh -c {quoted} </dev/null >/dev/null 2>&1 &",
        repeat=True,
    )


def _wait(
    place: Workplace, run: str, cpus: Sequence[int], timeout_s: float, reconnect_s: float, what: str
) -> tuple[int, int | None, tuple[tuple[int, ...], ...]]:
    """Exit code, process number and CPUs, once it has ended."""
    started = heard = time.monotonic()
    pause_s, lost = _FIRST_POLL_S, False
    seen: list[tuple[int, ...]] = []
    while True:
        place.pause(pause_s)
        pause_s = min(pause_s * _GROWTH, _LONGEST_POLL_S)
        try:
            found = _look(place, run)
        except PhoneError as error:
            # A phone under load may be slow to answer, too.
            if not (error.transient or isinstance(error, PhoneTimeout)):
                raise
            silent_s = time.monotonic() - heard
            if silent_s > reconnect_s:
                raise LinkLost(
                    f"{place.link.serial} was out of reach for {silent_s:.0f} s while {what} ran on it: "
                    f"{error.message}",
                    "check the cable or the network; what still runs on the phone is ended by its watchdog "
                    f"{place.grace_s} s after our last contact",
                ) from error
            if not lost:
                lost = True
                place.say(f"{place.link.serial}: the link dropped; {what} goes on there, trying to reach it again")
            with contextlib.suppress(PhoneError):
                place.link.wait(min(_RETRY_S, reconnect_s))
            pause_s = _FIRST_POLL_S
            continue
        heard, lost = time.monotonic(), False
        if found.cpus and not seen:
            _check_cpus(cpus, found.cpus[0], what)
        seen += found.cpus[1 if seen else 0 :]
        if found.end.isdecimal():
            return int(found.end), found.pid, tuple(seen)
        if found.end.startswith(_MASK_FAILED):
            raise _not_pinned(found.end, place, run, cpus)
        if not found.alive and time.monotonic() - started > _START_S * (found.pid is None):
            _kill(place, run)
            raise RunnerFailed(
                f"{what} is gone from {place.link.serial} without a trace: somebody killed it and the shell around it",
                137,
                _tail(place, run),
                "Android ends programs so when memory runs out: close apps, or restart the phone",
            )
        if time.monotonic() - started > timeout_s:
            _kill(place, run)
            raise PhoneTimeout(
                f"{what} had not ended on {place.link.serial} after {timeout_s:.0f} s, and was ended there",
                "use fewer samples, a smaller model, or a longer time limit",
            )


@dataclass(frozen=True, slots=True)
class _Look:
    """cpus: allowed at the program's start, and now; empty before it started."""

    end: str
    alive: bool
    pid: int | None
    cpus: tuple[tuple[int, ...], ...]


def _look(place: Workplace, run: str) -> _Look:
    """Only builtins: a process of ours less on the phone. `rc` is read after `alive`: who is gone had written it."""
    text = place.run(
        "pid=; child=; cpus=; now=; alive=; end=\n"
        f"[ -f {run}/pid ] && read -r pid <{run}/pid\n"
        f'[ "$pid" ] && [ -d /proc/$pid ] && alive=yes\n'
        f"[ -f {run}/child ] && read -r child <{run}/child\n"
        f"[ -f {run}/cpus ] && read -r cpus <{run}/cpus\n"
        f"[ -f {run}/rc ] && read -r end <{run}/rc\n"
        f'[ -z "$end" ] && [ "$child" ] && [ -r /proc/$child/status ] && while read -r key value; do\n'
        '  [ "$key" != Cpus_allowed_list: ] || now=$value\n'
        "done </proc/$child/status 2>/dev/null\n"
        'echo "$end"; echo "$alive"; echo "$child"; echo "$cpus"; echo "$now"',
        timeout_s=20,
    )
    end, alive, child, start, now, *_ = [*text.split("\n"), "", "", "", "", ""]
    cpus = tuple(filter(None, (cpu_list(start), cpu_list(now))))
    return _Look(end.strip(), bool(alive.strip()), int(child) if child.isdecimal() else None, cpus)


def _check_cpus(wanted: Sequence[int], found: tuple[int, ...], what: str) -> None:
    if wanted and not set(found) <= set(wanted):
        raise BadCores(
            f"{what} was to run on CPU {as_list(wanted)}, and Android lets it run on {as_list(found)}",
            "choose other cores, or all",
        )


def _check_code(code: int, place: Workplace, run: str, what: str) -> None:
    """Codes that no program gives by itself."""
    if code in _ENDS:
        how, hint = _ENDS[code]
        raise RunnerFailed(f"{what} {how} on {place.link.serial}", code, _tail(place, run), hint)
    if code in (126, 127):
        said = _tail(place, run)
        if "ELF file" in said or "Exec format" in said:
            raise WrongAbi(
                f"{what} cannot run on {place.link.serial}: {said}",
                f"build it for {', '.join(place.abis) or 'this phone'}",
            )
        if code == 126:
            raise NotExecutable(
                f"{what} cannot be started on {place.link.serial}: {said}", "is it a program for Android?"
            )
        raise RunnerFailed(
            f"{what} cannot be started on {place.link.serial}",
            code,
            said,
            "a program built for another system names a loader that Android lacks; build it with the NDK or statically",
        )


def _not_pinned(end: str, place: Workplace, run: str, cpus: Sequence[int]) -> PhoneError:
    if end.split()[-1] == "127":
        return CommandMissing("taskset", "without it nothing can be pinned to cores; measure with --cores all")
    return BadCores(
        f"Android does not let us run on CPU {as_list(cpus)} of {place.link.serial}: {_tail(place, run)}",
        "wake the phone, let it cool, or choose other cores",
    )


def _kill(place: Workplace, run: str) -> None:
    """End the shell, the program and whatever it started: they share a process group."""
    place.shell(
        f"pid=; child=; [ -f {run}/pid ] && read -r pid <{run}/pid; [ -f {run}/child ] && read -r child <{run}/child\n"
        'for each in $pid $child; do kill -9 -- "-$each" 2>/dev/null; kill -9 "$each" 2>/dev/null; done',
        repeat=True,
    )


def _tail(place: Workplace, run: str) -> str:
    return place.shell(f"tail -c 4000 {run}/err; tail -c 500 {run}/out", repeat=True).stdout.strip()


def _fetch(place: Workplace, run: str) -> tuple[str, tuple[int, ...]]:
    """stdout, whole, and which CPUs are on: one command for both, between two rounds."""
    text = place.run(
        f"cat /sys/devices/system/cpu/online 2>/dev/null || echo; wc -c <{run}/out; sha256sum <{run}/out; "
        f"head -c {_SHORT_BYTES} {run}/out",
        timeout_s=60,
        repeat=True,
    )
    online, size, digest, stdout = [*text.split("\n", 3), "", "", ""][:4]
    if size.strip().isdecimal() and int(size) <= _SHORT_BYTES:
        found = hashlib.sha256(stdout.encode("utf-8", "replace")).hexdigest()
        if digest.split()[:1] == [found]:
            return stdout, cpu_list(online)
    # Long, not text, or changed on its way: as a file, then.
    return _pulled(place, f"{run}/out"), cpu_list(online)


def _pulled(place: Workplace, remote: str) -> str:
    """A text file of the phone, whole: size and SHA-256 checked."""
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as folder:
        local = Path(folder) / "text"
        place.link.pull(remote, local)
        return local.read_bytes().decode("utf-8", "replace")
