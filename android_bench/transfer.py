"""Files to and from a phone, whole or not at all.

`adb push` and `pull` end with code 0 or 1 and words on either stream, and can leave a part of a file (adb 29 to 34,
measured). So a file goes to a draft name, is compared by size and SHA-256, and is then renamed. Every step may be done
twice, so all of it is repeated when the link drops.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from android_bench.errors import (
    CommandMissing,
    LinkLost,
    PermissionDenied,
    PhoneError,
    PullFailed,
    PushFailed,
    ReadOnly,
    TransferDamaged,
)
from android_bench.judge import Output, command_error, is_directory, pull_error, push_error
from android_bench.repeating import repeated
from android_bench.seams import Channel

DRAFT = ".pocketforge-draft-"
# A link that carries less than this is as good as frozen: USB 2 does 30 MB/s, bad Wi-Fi 0.5.
_SLOWEST_BYTES_PER_S = 200_000
_LEAST_S = 30.0
# A phone's SHA-256 takes some 200 MB/s, its flash less.
_SLOWEST_HASH_BYTES_PER_S = 5_000_000
_HASH_TIMEOUT_S = 120.0
_REMOVE_TIMEOUT_S = 5.0
_IS_DIRECTORY = 21  # EISDIR, as the scripts' own exit code
_DIFFERS = 71
_MAY_BE_DIRECTORY = (PermissionDenied, PushFailed, ReadOnly)
_NO_SHA256 = "this phone has no sha256sum (toybox of Android 6 and later has it): what was sent cannot be checked"
_SUM = re.compile(r"(\d+)\s+([0-9a-f]{64})\s")


def push(link: Channel, local: Path, remote: str, *, executable: bool, timeout_s: float) -> None:
    """Put a file on the phone at an absolute path, over whatever file is there.

    Drafts are removed on every failure that the link allows; else the error's hint says which may stay. timeout_s: of
    each try's transfer; less for a small file. Raises PushFailed, NoSpace, ReadOnly, PermissionDenied, IsDirectory,
    TransferDamaged, CommandMissing (no sha256sum) and what Link.shell raises.
    """
    _check_remote(remote, PushFailed)
    size_bytes, sha256 = _measure(local, PushFailed)
    limit_s = _limit_s(size_bytes, timeout_s)
    drafts: list[str] = []

    def once() -> None:
        # A new name each time: the phone's end of a dropped link may still write to, or remove, the one before.
        draft = f"{remote.rpartition('/')[0]}/{DRAFT}{secrets.token_hex(8)}"
        drafts.append(draft)
        _send(link, local, draft, remote, limit_s)
        _publish(link, drafts, remote, size_bytes, sha256, executable)

    try:
        repeated(once, link.wait)
    except BaseException as error:
        if _remove(link, drafts, remote, error) and isinstance(error, _MAY_BE_DIRECTORY):
            raise is_directory(remote) from None
        raise


def pull(link: Channel, remote: str, local: Path, *, timeout_s: float) -> None:
    """Fetch a file of the phone by its absolute path; `local` is replaced in one step, or left as it was.

    timeout_s: of each try's transfer; less for a small file. Raises PullFailed (also for what the phone does not have),
    IsDirectory, TransferDamaged, CommandMissing (no sha256sum) and what Link.shell raises.
    """
    _check_remote(remote, PullFailed)

    def once() -> None:
        size_bytes, sha256 = _measure_remote(link, remote, min(timeout_s, _HASH_TIMEOUT_S))
        limit_s = _limit_s(size_bytes, timeout_s)
        try:
            with tempfile.TemporaryDirectory(prefix=DRAFT, dir=local.absolute().parent) as folder:
                draft = Path(folder) / "file"
                _fetch(link, remote, draft, limit_s)
                got = _measure(draft, PullFailed)
                if got != (size_bytes, sha256):
                    raise _damaged(remote, "pulled", f"{size_bytes} {sha256}", f"{got[0]} {got[1]}")
                os.replace(draft, local)
        except OSError as error:
            raise PullFailed(f"{local} cannot be written: {error.strerror}", "name a file in another place") from None

    repeated(once, link.wait)


def _send(link: Channel, local: Path, draft: str, remote: str, limit_s: float) -> None:
    path = os.path.abspath(local)  # never an option of adb's
    done = link.adb.call(["-s", link.serial, "push", path, draft], limit_s, may_be_late=True)
    if done.late:
        raise link.late(f"pushing {remote}", limit_s)
    if done.code != 0:
        raise _blamed(link, push_error(_text(done.stdout, done.stderr).replace(draft, remote), path, remote))


def _fetch(link: Channel, remote: str, draft: Path, limit_s: float) -> None:
    done = link.adb.call(["-s", link.serial, "pull", remote, os.fspath(draft)], limit_s, may_be_late=True)
    if done.late:
        raise link.late(f"pulling {remote}", limit_s)
    if done.code != 0 or not draft.is_file():
        raise _blamed(link, pull_error(_text(done.stdout, done.stderr), os.fspath(draft), remote))


def _blamed(link: Channel, error: PhoneError) -> PhoneError:
    """The error, or LinkLost for words we do not know from a phone that is not there now: versions of adb differ."""
    if not isinstance(error, PullFailed | PushFailed) or link.listed():
        return error
    return LinkLost(f"the link to {link.serial} dropped: {error.message}", "is its cable or network steady?")


def _publish(link: Channel, drafts: Sequence[str], remote: str, size_bytes: int, sha256: str, executable: bool) -> None:
    """Compare the last draft with what was sent, give it its name, and remove those of earlier tries."""
    *earlier, temporary = (shlex.quote(draft) for draft in drafts)
    final = shlex.quote(remote)
    clean = f"rm -f {' '.join(earlier)}; " if earlier else ""
    mode = f"chmod 755 {temporary} && " if executable else ""
    script = (
        f"{clean}[ -d {final} ] && exit {_IS_DIRECTORY}; "
        f"s=$(wc -c < {temporary}) && h=$(sha256sum < {temporary}) || exit; "
        f'set -- $s $h; [ "$1 $2" = "{size_bytes} {sha256}" ] || {{ echo "$1 $2"; exit {_DIFFERS}; }}; '
        f"{mode}mv -f {temporary} {final}"
    )
    output = link.shell(script, timeout_s=_LEAST_S + size_bytes / _SLOWEST_HASH_BYTES_PER_S)
    if output.code == _IS_DIRECTORY:
        raise is_directory(remote)
    if output.code == _DIFFERS:
        raise _damaged(remote, "pushed", f"{size_bytes} {sha256}", output.stdout.strip())
    if output.code:
        raise _named(output, f"checking {remote}")


def _measure_remote(link: Channel, remote: str, timeout_s: float) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file on the phone."""
    name = shlex.quote(remote)
    script = f"[ -d {name} ] && exit {_IS_DIRECTORY}; wc -c < {name} && sha256sum < {name}"
    output = link.shell(script, timeout_s=timeout_s)
    if output.code == _IS_DIRECTORY:
        raise is_directory(remote)
    found = _SUM.match(output.stdout.lstrip())
    if output.code or found is None:
        error = _named(output, f"reading {remote}")
        if isinstance(error, CommandMissing):
            raise error
        said = (output.stderr or output.stdout).strip()
        raise PullFailed(f"the phone does not give {remote}: {said}", "see: adb shell ls -l of its folder")
    return int(found[1]), found[2]


def _named(output: Output, doing: str) -> PhoneError:
    error = command_error(doing, output)
    return CommandMissing(error.word, _NO_SHA256) if isinstance(error, CommandMissing) else error


def _remove(link: Channel, drafts: Sequence[str], remote: str, error: BaseException) -> bool:
    """Remove drafts after an error, where the link allows; else say in the error which may stay.

    Whether the target was found to be a directory: /sdcard's draft would be refused in /, for another reason.
    """
    names = " ".join(shlex.quote(draft) for draft in drafts)
    script = (
        f'rm -f {names} 2>/dev/null; for d in {names}; do [ -e "$d" ] && exit 1; done; '
        f"[ -d {shlex.quote(remote)} ] && exit {_IS_DIRECTORY}; exit 0"
    )
    try:
        if isinstance(error, PhoneError) and error.transient:
            link.wait(_REMOVE_TIMEOUT_S)
        code = link.once(script, _REMOVE_TIMEOUT_S, ask_again=False).code
    except PhoneError:
        code = 1
    if code not in (0, _IS_DIRECTORY):
        left = f"a part of the file may be left on the phone: {' '.join(drafts)}"
        if isinstance(error, PhoneError):
            error.hint += f"; {left}" if error.hint else left
        else:
            error.add_note(left)
    return code == _IS_DIRECTORY


def _check_remote(remote: str, kind: type[PhoneError]) -> None:
    if not remote.startswith("/") or remote.endswith("/") or "\0" in remote:
        raise kind(f"{remote!r} is no absolute path of a file on the phone", "as /data/local/tmp/name")


def _measure(local: Path, kind: type[PhoneError]) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a regular file here."""
    try:
        if not stat.S_ISREG(os.stat(local).st_mode):
            raise kind(f"{local} is not a regular file", "name a file")
        with open(local, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return os.fstat(file.fileno()).st_size, sha256
    except OSError as error:
        raise kind(f"{local} cannot be read: {error.strerror}", "name a file that this user may read") from None


def _damaged(remote: str, done: str, wanted: str, found: str) -> TransferDamaged:
    return TransferDamaged(
        f"{remote} was not {done} whole: wanted size and SHA-256 {wanted}, found {found or 'nothing'}",
        "did the file change meanwhile? Else try another cable, or USB for Wi-Fi",
    )


def _limit_s(size_bytes: int, timeout_s: float) -> float:
    return min(timeout_s, _LEAST_S + size_bytes / _SLOWEST_BYTES_PER_S)


def _text(stdout: bytes, stderr: bytes) -> str:
    return (stdout + b"\n" + stderr).decode("utf-8", "replace")
