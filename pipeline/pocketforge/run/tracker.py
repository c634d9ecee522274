"""What the user's code opens, lists and looks for while a stage runs, noted as it happens.

The user's model file may read a configuration beside it, his data function whatever it likes: nothing of it is named in
the recipe. Python tells an audit hook of every file that it opens and every folder that it lists; safetensors, which
opens files in Rust, and checks whether a file exists are wrapped. Noted is what happens below a frame of the user's
code, and what threads and processes do that have none of ours above them. Files of the interpreter, of installed
packages and of the system are left out, and those that the stage wrote itself.

Each note is one line of JSON, appended at once: a child of `fork` writes to the same file, and a kill loses nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import stat
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pocketforge.files import hash_file
from pocketforge.run.fingerprints import Stamp, is_racy

# Where a stage's other processes find the file of notes.
VARIABLE = "POCKETFORGE_READS"
_PACKAGE = str(Path(__file__).parents[1]) + os.sep
# Calls into the user's objects start here: what they open may have no frame of his own (a library's dataset).
_BOUNDARIES = (os.path.join("data", "function_samples.py"),)
# What is above the stage started it: a program of the user's is no part of the stage.
_BEGIN = (os.path.join("run", "worker.py"),)
_SYSTEM = ("/proc/", "/sys/", "/etc/", "/lib/", "/lib64/", "/bin/", "/sbin/")
_IMPORTS = "<frozen importlib"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What the stage wrote, or removed, itself: a file; a folder with all that is in it.
WRITTEN, MADE = "write", "made"
# Readers that open files without Python: module, name.
_NATIVE = (
    ("safetensors", "safe_open"),
    ("safetensors.torch", "safe_open"),
    ("safetensors.numpy", "safe_open"),
    ("torch.jit", "load"),
)


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that the user's code did, a line of JSON in the file of notes.

    Attributes:
        kind: `open` a file, `list` a folder, find a file `there` or `absent`; `write` a file or have `made` a folder.
        path: Absolute.
        here: Whether the code named it from the working folder: elsewhere it is then another file.
        failed: Of an absent one: whether it was to be opened, not only asked after.
        stamp: Of an opened one, as it was then: size, times of change of content and of inode in ns, inode.
        sha256: Of the content of one that had changed so shortly before that it may again without a trace.
        names: What a listed folder held, sorted.
    """

    kind: str
    path: str
    here: bool
    failed: bool = False
    stamp: tuple[int, ...] = ()
    sha256: str = ""
    names: tuple[str, ...] = ()

    def to_line(self) -> bytes:
        fields = {name: value for name, value in asdict(self).items() if value not in (False, (), "") or name == "here"}
        return (json.dumps(fields) + "\n").encode("utf-8", "surrogateescape")


def read_note(line: str) -> Note:
    """Raises ValueError for a line that a kill cut off."""
    fields: dict[str, Any] = json.loads(line)
    fields |= {name: tuple(fields[name]) for name in ("stamp", "names") if name in fields}
    return Note(**fields)


def start(notes: Path, skip: tuple[str, ...]) -> None:
    """Note into the file `notes`, until the process ends. skip: folders of ours, whose files are no inputs."""
    os.environ[VARIABLE] = json.dumps([str(notes), *skip])
    _Tracker(notes, skip).install()


def join() -> None:
    """In a process that a stage started: note into the stage's file, if it has one."""
    if VARIABLE in os.environ:
        notes, *skip = json.loads(os.environ[VARIABLE])
        _Tracker(Path(notes), tuple(skip)).install()


# Of an audit event, as Python's documentation lists them.
_Arguments = tuple[Any, ...]
_AnyPath = int | str | bytes | os.PathLike[str] | os.PathLike[bytes]


class _Tracker:
    def __init__(self, notes: Path, skip: tuple[str, ...]) -> None:
        self._file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._installed = _installed()
        self._skip = (*self._installed, *_SYSTEM, *(os.path.join(folder, "") for folder in skip))
        self._folder = os.getcwd()
        self._seen: set[tuple[str, str]] = set()
        self._busy = threading.local()
        self._stat = os.stat
        self._events: Mapping[str, Callable[[_Arguments], None]] = {
            "open": self._opens,
            "os.listdir": self._lists,
            "os.scandir": self._lists,
            "os.rename": self._renames,
            "os.mkdir": self._makes,
            "os.remove": self._removes,
            "shutil.rmtree": lambda arguments: self._writes(arguments[0], MADE),
            "os.link": lambda arguments: self._writes(arguments[1]),
            "os.symlink": lambda arguments: self._writes(arguments[1]),
        }

    def install(self) -> None:
        sys.addaudithook(self._hook)
        self._wrap_stat()
        for module, name in _NATIVE:
            if module in sys.modules or module == "safetensors":
                self._wrap(module, name)

    def _hook(self, event: str, arguments: _Arguments) -> None:
        handle = self._events.get(event)
        if handle is None or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            handle(arguments)
        finally:
            self._busy.now = False

    def _opens(self, arguments: _Arguments) -> None:
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITES:
            self._writes(path)
        else:
            self._reads(path)

    def _reads(self, path: object) -> None:
        absolute = self._wanted(path)
        if absolute is None or ("open", absolute) in self._seen:
            return
        now = time.time_ns()
        try:
            at = self._stat(absolute)
        except (OSError, ValueError):
            self._note(Note("absent", absolute, self._is_here(path), failed=True))
            return
        if not stat.S_ISREG(at.st_mode):
            return
        self._seen.add(("open", absolute))
        stamp = Stamp(at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino, at.st_dev)
        # One that changed just now may change again without a trace: its content is noted too.
        sha256 = hash_file(Path(absolute)) if is_racy(stamp, now) else ""
        times = (at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino)
        self._note(Note("open", absolute, self._is_here(path), stamp=times, sha256=sha256))

    def _lists(self, arguments: _Arguments) -> None:
        path = arguments[0] if arguments[0] is not None else "."
        caller = _outside()
        if caller is None or caller.f_code.co_filename.startswith(_IMPORTS):
            return  # looks for modules: those that it finds are opened
        absolute = self._wanted(path)
        if absolute is not None and ("list", absolute) not in self._seen:
            try:
                names = os.listdir(absolute)
            except OSError:
                self._note(Note("absent", absolute, self._is_here(path)))
                return
            self._seen.add(("list", absolute))
            self._note(Note("list", absolute, self._is_here(path), names=tuple(sorted(names))))

    def _makes(self, arguments: _Arguments) -> None:
        absolute = self._absolute(arguments[0])
        # os.makedirs(…, exist_ok=True) tries to make what is there: that is no folder of the stage's.
        if absolute is not None and not os.path.lexists(absolute):
            self._writes(absolute, MADE)

    def _renames(self, arguments: _Arguments) -> None:
        source = self._absolute(arguments[0])
        self._writes(arguments[1], MADE if source is not None and os.path.isdir(source) else WRITTEN)

    def _removes(self, arguments: _Arguments) -> None:
        if arguments[1] == -1:  # else it is named from an open folder, whose removal is an event of its own
            self._writes(arguments[0])

    def _writes(self, path: object, kind: str = WRITTEN) -> None:
        absolute = self._absolute(path)
        if absolute is not None and (kind, absolute) not in self._seen and not absolute.startswith(self._skip):
            self._note(Note(kind, absolute, self._is_here(path)))

    def _wanted(self, path: object) -> str | None:
        """The absolute path, where it is no file of ours or the system's and the user's code asks for it."""
        absolute = self._absolute(path)
        if absolute is None or f"{absolute}{os.sep}".startswith(self._skip):
            return None
        return absolute if self._is_the_users(_outside()) else None

    def _absolute(self, path: object) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None  # an open descriptor
        text = os.fsdecode(path)
        try:
            return os.path.abspath(text) if "\0" not in text else None
        except OSError:  # the working folder is gone, and a relative path names nothing
            return None

    def _is_the_users(self, frame: FrameType | None) -> bool:
        below_ours = False
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(_PACKAGE):
                if name.endswith(_BOUNDARIES) and not below_ours:
                    return True
                if name.endswith(_BEGIN):
                    return False
                below_ours = True
            elif not name.startswith(("<", *self._installed)):
                return True
            frame = frame.f_back
        return not below_ours

    def _note(self, note: Note) -> None:
        key = (note.kind, note.path)
        if note.kind == "absent" and key in self._seen:
            return
        self._seen.add(key)
        os.write(self._file, note.to_line())

    def _is_here(self, given: object) -> bool:
        """Whether the code named it from the working folder."""
        named = isinstance(given, (str, bytes, os.PathLike)) and not os.path.isabs(os.fsdecode(given))
        return named and os.getcwd() == self._folder

    def _wrap_stat(self) -> None:
        """Note whether a file that the user's code asks for is there: os.path.exists and its like have no event."""

        def stat_and_note(path: _AnyPath, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
            return self._stat_and_note(path, dir_fd, follow_symlinks)

        def lstat_and_note(path: _AnyPath, *, dir_fd: int | None = None) -> os.stat_result:
            return self._stat_and_note(path, dir_fd, False)

        for original, instead in ((os.stat, stat_and_note), (os.lstat, lstat_and_note)):
            for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
                if original in known:
                    known.add(instead)
        os.stat = stat_and_note
        os.lstat = lstat_and_note

    def _stat_and_note(self, path: _AnyPath, dir_fd: int | None, follow_symlinks: bool) -> os.stat_result:
        try:
            status = self._stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        except (FileNotFoundError, NotADirectoryError):
            self._asked(path, dir_fd, there=False)
            raise
        if stat.S_ISREG(status.st_mode) and follow_symlinks:
            self._asked(path, dir_fd, there=True)
        return status

    def _asked(self, path: object, dir_fd: int | None, there: bool) -> None:
        if dir_fd is not None or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            absolute = self._wanted(path)
            kind = "there" if there else "absent"
            if absolute is not None and (kind, absolute) not in self._seen and ("open", absolute) not in self._seen:
                self._note(Note(kind, absolute, self._is_here(path)))
        finally:
            self._busy.now = False

    def _wrap(self, module: str, name: str) -> None:
        try:
            owner = importlib.import_module(module)
            original = getattr(owner, name)
        except (ImportError, AttributeError):
            return
        if getattr(original, "_notes_reads", False):
            return

        def open_and_note(path: Any, *arguments: Any, **more: Any) -> Any:
            if not getattr(self._busy, "now", False):
                self._busy.now = True
                try:
                    self._reads(path)
                finally:
                    self._busy.now = False
            return original(path, *arguments, **more)

        open_and_note._notes_reads = True  # type: ignore[attr-defined]
        open_and_note.__name__, open_and_note.__doc__ = name, original.__doc__
        setattr(owner, name, open_and_note)


def _outside() -> FrameType | None:
    """The innermost frame that is not of this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


def _installed() -> tuple[str, ...]:
    """Folders of the interpreter and of installed packages. Not all of its prefix: a project may lie in /usr/src."""
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "include", "scripts")}
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/usr/local"}:
        folders |= {os.path.join(prefix, name) for name in ("lib", "lib64", "share", "bin", "include", "etc")}
    folders |= {entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    folders |= {os.path.realpath(folder) for folder in folders}
    return (_PACKAGE, *sorted(os.path.join(folder, "") for folder in folders))
