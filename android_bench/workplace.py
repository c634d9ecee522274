"""A private folder on the phone for one session: made, kept alive, and removed on every way out.

Nothing is left on the phone but by choice of whoever pulls its plug: `with` removes the folder, its processes, its
settings and the lock after errors, ^C and SIGTERM as well; when this computer is gone for longer than `grace_s`, a
watchdog on the phone does the same; and what even that could not (the phone restarted), the next session sweeps up.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from android_bench import lock
from android_bench.errors import (
    BadFile,
    NoSpace,
    NotExecutable,
    PhoneError,
    Rebooted,
    SessionGone,
    WrongAbi,
)
from android_bench.files import sha256_of
from android_bench.interruption import ended_in_order, not_interrupted
from android_bench.judge import command_error
from android_bench.phone import PhoneFacts, read_facts

if TYPE_CHECKING:
    from android_bench.adb import Link, Output
    from android_bench.bundle import Bundle

GRACE_S = 900
# What must stay free: Android itself misbehaves on a full disk, and outputs need room.
MARGIN_BYTES = 32 * 1024 * 1024
_FOLDER = re.compile(r"pocketforge-[0-9a-f]{16}")
_OTHER_BOOT, _NO_FOLDER = 201, 202


class Workplace:
    """The folder of a session that `open_workplace` made.

    folder: its path on the phone. boot_id: the phone's, "" if it does not tell. abis: what programs it runs. say: takes
    words for the user. pause: sleeps for seconds; may raise to end the session.
    """

    def __init__(
        self,
        link: Link,
        folder: str,
        boot_id: str,
        abis: tuple[str, ...],
        grace_s: int,
        say: Callable[[str], None],
        pause: Callable[[float], None],
    ) -> None:
        self.link = link
        self.folder = folder
        self.boot_id = boot_id
        self.grace_s = grace_s
        self.say = say
        self.pause = pause
        self.abis = abis
        self._touched = time.monotonic()
        self._pushed: dict[str, str] = {}
        self._runs = 0

    def shell(self, command: str, *, timeout_s: float = 30, repeat: bool = False) -> Output:
        """A shell line, run in the folder; the watchdog hears of us.

        Raises Rebooted, SessionGone, and what `Link.shell` raises.
        """
        line = (
            "boot=; read -r boot </proc/sys/kernel/random/boot_id\n"
            f'[ "$boot" = {shlex.quote(self.boot_id)} ] || exit {_OTHER_BOOT}\n'
            f"cd {shlex.quote(self.folder)} 2>/dev/null || exit {_NO_FOLDER}\n"
            "read -r uptime idle </proc/uptime\n"
            'echo "${uptime%%.*}" >heartbeat\n'
            f"{command}"
        )
        output = self.link.shell(line, timeout_s=timeout_s, repeat=repeat)
        self._touched = time.monotonic()
        if output.code == _OTHER_BOOT:
            raise Rebooted(
                f"{self.link.serial} has restarted in mid-session: what ran on it is gone",
                "let it settle for some minutes, then measure again. If it restarts by itself under load, it is too "
                "hot or its battery too weak to be measured",
            )
        if output.code == _NO_FOLDER:
            raise SessionGone(
                f"the session's folder is gone from {self.link.serial}: its watchdog removes it when nothing is heard "
                f"of this computer for {self.grace_s} s, or someone else removed it",
                "keep this computer awake and the phone connected while measuring, then start again",
            )
        return output

    def run(self, command: str, *, timeout_s: float = 30, repeat: bool = False) -> str:
        """stdout of a shell line that must succeed. Raises CommandFailed and its like too."""
        output = self.shell(command, timeout_s=timeout_s, repeat=repeat)
        if output.code:
            raise command_error(command, output)
        return output.stdout

    def touch(self) -> None:
        """Let the watchdog hear of us, unless it just has."""
        if time.monotonic() - self._touched > self.grace_s / 10:
            self.run(":", repeat=True)

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def new_run(self) -> int:
        """The number of the next detached run."""
        self._runs += 1
        return self._runs

    def put(self, local: Path) -> str:
        return self.put_all([local])[0]

    def put_all(self, locals_: Sequence[Path]) -> list[str]:
        """Push files; each content once in a session. Where they lie on the phone.

        Raises BadFile, NoSpace (before anything is pushed) and what `Link.push` raises.
        """
        hashes = [sha256_of(path) for path in locals_]
        new = {digest: path for digest, path in zip(hashes, locals_, strict=True) if digest not in self._pushed}
        if new:
            self.need_space(sum(path.stat().st_size for path in new.values()))
        for digest, path in new.items():
            # The name is made of the content: whatever the user's file is called never reaches the phone. The
            # ending stays, as some programs judge files by it.
            ending = path.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,12}", path.suffix) else ""
            remote = self.path(f"files/{digest}{ending}")
            self.link.push(path, remote)
            if sha256_of(path) != digest:
                raise BadFile(f"{path} changed while it was pushed", "measure it when it is finished")
            self._pushed[digest] = remote
            self.touch()
        return [self._pushed[digest] for digest in hashes]

    def need_space(self, size_bytes: int) -> None:
        """Raises NoSpace unless so much, and a margin, is free for us."""
        found = free_bytes(self.run("df -k .", repeat=True))
        if found is not None and found < size_bytes + MARGIN_BYTES:
            mib = 1024 * 1024
            raise NoSpace(
                f"{self.link.serial} has too little space in {lock.PLACE}: wanted {size_bytes / mib:.1f} MiB and "
                f"{MARGIN_BYTES // mib} MiB to spare, found {found / mib:.1f} MiB",
                "free some space on the phone (Settings, Storage), or delete what lies in /data/local/tmp",
            )

    def install(self, bundle: Bundle) -> str:
        """Push a bundle and lay out its files under their names. The folder that it is to be started in.

        Raises WrongAbi, NotExecutable, and as `put_all`.
        """
        if bundle.abi and self.abis and bundle.abi not in self.abis:
            raise WrongAbi(
                f"{bundle.program.name} is built for {bundle.abi}, and {self.link.serial} runs {', '.join(self.abis)}",
                "use a 64-bit Arm phone, or give a program built for this one (--runner FILE)",
            )
        names = sorted(bundle.files)
        places = dict(zip(names, self.put_all([bundle.files[name] for name in names]), strict=True))
        digests = " ".join(f"{name}\0{places[name]}" for name in names)
        folder = self.path(f"bundle-{_short(digests)}")
        folders = sorted({f"{folder}/{name.rpartition('/')[0]}" for name in names})
        lines = ["mkdir -p " + shlex.join(folders)]
        for name, place in places.items():
            if name in bundle.executables:
                lines.append(f"chmod 700 {shlex.quote(place)}")
            lines.append(f"ln -sf {shlex.quote(place)} {shlex.quote(f'{folder}/{name}')}")
        self.run(" &&\n".join(lines), timeout_s=60, repeat=True)
        return folder


def free_bytes(df: str) -> int | None:
    """What `df -k FOLDER` says is free for us. Source: toybox, toys/posix/df.c. None if it cannot be read."""
    for line in reversed(df.splitlines()):
        found = re.search(r"\s(\d{1,18})\s+(\d{1,18})\s+(\d{1,18})\s+\d+%\s", line)
        if found:
            return int(found[3]) * 1024
    return None


@contextlib.contextmanager
def open_workplace(
    link: Link,
    say: Callable[[str], None],
    *,
    facts: PhoneFacts | None = None,
    grace_s: int = GRACE_S,
    pause: Callable[[float], None] = time.sleep,
    close_wait_s: float = 60,
) -> Iterator[Workplace]:
    """A private folder on the phone, removed at the end whatever happens.

    facts: the phone's, if they have just been read. grace_s: how long the phone's watchdog waits for a sign of us
    before it cleans up. close_wait_s: how long to wait at the end for a phone that is out of reach. Raises PhoneBusy,
    NotExecutable, and what Link raises.
    """
    facts = facts or read_facts(link)
    name = f"pocketforge-{secrets.token_hex(8)}"
    place = Workplace(link, f"{lock.PLACE}/{name}", facts.boot_id, facts.abis, grace_s, say, pause)
    with ended_in_order():
        try:
            over = lock.take(link, name, boot_id=facts.boot_id, grace_s=grace_s)
            if over:
                say(f"{link.serial}: taking over from {over}")
            _sweep(place, _make(place))
            yield place
        finally:
            with not_interrupted(say, f"{link.serial}: one moment, cleaning up; once more to leave that to the phone"):
                _close(place, close_wait_s)


def _make(place: Workplace) -> list[str]:
    """Folder, watchdog, and a proof that programs can be started there. What else of ours is on the phone."""
    folder = shlex.quote(place.folder)
    script = resources.files("android_bench").joinpath("phone_session.sh").read_text(encoding="utf-8")
    made = place.link.shell(
        "umask 077\n"
        f"[ -d {folder} ] || mkdir {folder} && cd {folder} && mkdir -p files runs undo || exit 1\n"
        'read -r uptime idle </proc/uptime && echo "${uptime%%.*}" >heartbeat || exit 1\n'
        f"printf '%s' {shlex.quote(script)} >session.sh || exit 1\n"
        "printf '#!/system/bin/sh\\nexit 0\\n' >probe && chmod 700 probe && ./probe || exit\n"
        # Its descriptors are its own: a client of adb waits for all that hold the one it gave out.
        f"[ -e watchdog.started ] || {{ : >watchdog.started; "
        f"setsid nohup sh {folder}/session.sh watch {folder} {place.grace_s} </dev/null >/dev/null 2>&1 & }}\n"
        "tries=0\n"
        "while [ ! -e watchdog ] && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done\n"
        "[ -e watchdog ] || { echo the watchdog does not start >&2; exit 1; }\n"
        f'for each in {lock.PLACE}/pocketforge-*; do echo "${{each##*/}}"; done',
        repeat=True,
    )
    if made.code == 126:
        raise NotExecutable(
            f"programs cannot be started from {lock.PLACE} of {place.link.serial}: {made.stderr.strip()}",
            "a phone's own Android allows it; on a changed one, mount /data without noexec",
        )
    if made.code:
        raise command_error(f"mkdir {place.folder}", made)
    return made.stdout.split()


def _sweep(place: Workplace, names: Sequence[str]) -> None:
    """Remove what dead sessions left: whoever has the lock is the only living one."""
    for name in names:
        if _FOLDER.fullmatch(name) and name != place.folder.rpartition("/")[2]:
            done = place.shell(f"sh session.sh clean {lock.PLACE}/{name}", timeout_s=120, repeat=True)
            say_what = "removed" if done.code == 0 else f"could not remove ({done.stderr.strip() or 'unknown why'})"
            place.say(f"{place.link.serial}: {say_what} what an earlier session left in {lock.PLACE}/{name}")
            for line in done.stdout.splitlines():
                place.say(f"{place.link.serial}: {line}")


def _close(place: Workplace, wait_s: float) -> None:
    """End, undo and remove everything. Says what could not be done, and never raises for it: the watchdog will."""
    folder = shlex.quote(place.folder)
    line = (
        f"if [ -f {folder}/session.sh ]; then sh {folder}/session.sh clean {folder}; else\n"
        f"  rm -rf {folder}\n"
        f'  [ "$(head -n 1 {lock.LOCK}/holder 2>/dev/null)" != {folder.rpartition("/")[2]} ] || rm -rf {lock.LOCK}\n'
        f"  [ ! -e {folder} ]\n"
        "fi"
    )
    deadline = time.monotonic() + wait_s
    while True:
        try:
            done = place.link.shell(line, timeout_s=120)
        except PhoneError as error:
            left_s = deadline - time.monotonic()
            if not error.transient or left_s <= 0:
                place.say(
                    f"{place.link.serial} cannot be reached to clean up ({error.message}): its own watchdog ends what "
                    f"runs there, undoes the settings and removes {place.folder} within {round(1.1 * place.grace_s)} s "
                    "of our last contact, if the phone stays on; else the next session does"
                )
                return
            with contextlib.suppress(PhoneError):
                place.link.wait(min(left_s, 10))
            continue
        for words in done.stdout.splitlines():
            place.say(f"{place.link.serial}: {words}")
        if done.code:
            place.say(f"{place.link.serial}: could not remove {place.folder}: {done.stderr.strip() or done.code}")
        return


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
