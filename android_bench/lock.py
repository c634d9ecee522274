"""One session at a time on a phone: a lock on the phone itself, whichever computer and adb server comes.

The lock is the folder /data/local/tmp/pocketforge.lock (mkdir succeeds for one only), with a file `holder`: the name of
the session's folder, then `key=value` lines. A lock whose session is dead is taken over: when the phone has restarted
since, when the process that took it is gone from this very computer, or when nothing was heard of it for longer than
its grace (its watchdog would have cleaned up).
"""

from __future__ import annotations

import getpass
import os
import platform
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from android_bench.errors import CommandFailed, PhoneBusy
from android_bench.link import Link

PLACE = "/data/local/tmp"
LOCK = f"{PLACE}/pocketforge.lock"
# Beyond the grace: the watchdog looks every tenth of it, and needs a moment to clean up.
_SLACK = 1.25
# A lock without a holder is being made, unless it stays so for this long.
_UNNAMED_S = 30


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the lock. session: name of the folder; about: what `own_marks` said, boot, grace, uptime, since, by."""

    session: str
    about: Mapping[str, str]

    def text(self) -> str:
        return "".join([f"{self.session}\n", *(f"{key}={value}\n" for key, value in self.about.items())])


@dataclass(frozen=True, slots=True)
class State:
    """The lock as found. age_s: since the holder was last heard (the lock's own age where it has no holder)."""

    text: str
    holder: Holder | None
    age_s: int
    boot_id: str


def take(link: Link, session: str, *, boot_id: str, grace_s: int) -> str:
    """Take the lock for the folder named `session`; says whom it was taken over from, "" if it was free.

    Raises PhoneBusy, naming since when and by whom; and what Link raises.
    """
    over = ""
    for _ in range(3):
        mine = _holder(session, boot_id, grace_s)
        found = _try(link, mine)
        if found is None:
            return over
        why = dead(found)
        if not why:
            raise _busy(link, found)
        _remove(link, found)
        over = f"{found.holder.session if found.holder else 'an unfinished lock'} ({why})"
    raise PhoneBusy(f"several sessions want {link.serial} at the same time", "try again")


def dead(found: State) -> str:
    """Why the session that holds the lock cannot be alive; "" if it may be."""
    if found.holder is None:
        return "nobody's" if found.age_s > _UNNAMED_S else ""
    about = found.holder.about
    if about.get("boot", "") != found.boot_id:
        return "the phone has restarted since"
    if about.get("host") and about.get("host") == own_marks()["host"] and not _runs(about.get("process", "")):
        return "its process has ended"
    grace = about.get("grace", "")
    if grace.isdecimal() and found.age_s > _SLACK * int(grace) + 5:
        return f"not heard of for {found.age_s} s"
    return ""


def own_marks() -> dict[str, str]:
    """host: this computer's present run and process namespace, "" where that cannot be told; process: pid and start.

    Both only where Linux tells them: elsewhere a dead session's lock is free after its grace.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return {"host": "", "process": ""}
    return {"host": f"{boot} {namespace}", "process": f"{os.getpid()} {_start_of(os.getpid())}"}


def _runs(process: str) -> bool:
    pid, _, start = process.partition(" ")
    return pid.isdecimal() and _start_of(int(pid)) == start


def _start_of(pid: int) -> str:
    """When a process began, in the kernel's ticks (proc(5), stat, field 22): a pid alone may be another's by now."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _holder(session: str, boot_id: str, grace_s: int) -> Holder:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no such user here (a container), by Python's version
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    about = {
        "boot": boot_id,
        "grace": str(grace_s),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "by": " ".join(f"{user} on {platform.node() or 'an unnamed computer'} (process {os.getpid()})".split()),
        **own_marks(),
        # Another try of the same session, after an answer that got lost, must know its own lock again, and no other.
        "nonce": secrets.token_hex(8),
    }
    return Holder(session, about)


def _try(link: Link, mine: Holder) -> State | None:
    """None: it is ours now. All in one line of shell: nothing can come in between but a cut of power."""
    line = (
        f"uptime=; read -r uptime idle </proc/uptime; boot=; read -r boot </proc/sys/kernel/random/boot_id\n"
        f"if mkdir {LOCK} 2>/dev/null; then\n"
        f"  printf '%s' {shlex.quote(mine.text())} >{LOCK}/holder && echo uptime=${{uptime%%.*}} >>{LOCK}/holder\n"
        f"fi\n"
        f"echo $boot; echo ${{uptime%%.*}}\n"
        f"made=$(stat -c %Y {LOCK}); now=$(date +%s); echo $((now - made))\n"
        f"session=; [ -f {LOCK}/holder ] && read -r session <{LOCK}/holder\n"
        f'beat="{PLACE}/$session/heartbeat"; heard=; [ "$session" ] && [ -f "$beat" ] && read -r heard <"$beat"\n'
        f"echo $heard; cat {LOCK}/holder 2>/dev/null; true"
    )
    output = link.run(line, repeat=True)
    boot_id, uptime_s, lock_age_s, heard_s, *rest = [*output.split("\n"), "", "", "", ""]
    text = "\n".join(rest).rstrip("\n")
    if text.startswith(mine.text()):
        return None
    if not uptime_s.isdecimal():
        raise CommandFailed(line, 0, output, hint="the phone's uptime cannot be read")
    holder = _parse(text)
    if holder is None:
        return State(text, None, int(lock_age_s) if lock_age_s.lstrip("-").isdecimal() else 0, boot_id)
    taken_s = holder.about.get("uptime", "")
    heard = [int(value) for value in (heard_s, taken_s) if value.isdecimal()]
    return State(text, holder, int(uptime_s) - max(heard, default=0), boot_id)


def _parse(text: str) -> Holder | None:
    first, *rest = text.split("\n")
    if not first:
        return None
    pairs = (line.partition("=") for line in rest if "=" in line)
    return Holder(first, {key: value for key, _, value in pairs})


def _remove(link: Link, found: State) -> None:
    """Remove the lock if it still is the one that was found."""
    aside = f"{LOCK}.{secrets.token_hex(8)}"
    link.run(
        f'if [ "$(cat {LOCK}/holder 2>/dev/null)" = {shlex.quote(found.text)} ]; then\n'
        f"  mv {LOCK} {aside} 2>/dev/null; rm -rf {aside}\n"
        f"fi",
        repeat=True,
    )


def _busy(link: Link, found: State) -> PhoneBusy:
    about = found.holder.about if found.holder else {}
    by, since = about.get("by", "somebody unknown"), about.get("since", "just now")
    return PhoneBusy(
        f"{link.serial} is in use: by {by}, since {since}, last heard {max(found.age_s, 0)} s ago",
        "wait until that session ends; two at once would spoil each other's times. "
        f"One that was killed from another computer frees the phone by itself after {about.get('grace', '900')} s",
    )
