"""What is pushed to measure with: our runner with the C library that it was built for, or a program of the user's.

A phone has no glibc. Our runners bring theirs, and are started through its loader by hand: nothing on the phone has to
know of it (`./ld-linux-aarch64.so.1 --library-path lib ./pf_litert …`). A user's program is started as it is.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from android_bench import foreign, parse
from android_bench.errors import BadFile, BadOutput
from android_bench.files import sha256_of

Mode = Literal["describe", "run", "time"]
LOADER = "ld-linux-aarch64.so.1"
# glibc and the C++ library: whatever our runners and the runtimes' libraries may name as NEEDED.
SYSTEM = (
    LOADER, "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1",
)  # fmt: skip
# LiteRT's "INFO: …" and ExecuTorch's "I 00:00:00.048664 executorch:threadpool.cpp:66] …" (D: debug).
_START_LOG = re.compile(r"(INFO|WARNING):|[DI] \d\d:\d\d:\d\d\.\d+ executorch:")
# ELF e_machine (include/uapi/linux/elf-em.h) → Android's name.
_ABIS = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a runner is to do (android_bench/runner/README.md). Paths are the phone's.

    inputs: raw little-endian files, one an input of the model. sha256: of the model, "" for any. samples, time_ms,
    warmup: of mode time. outputs: folder, of mode run.
    """

    mode: Mode
    model: str
    inputs: tuple[str, ...] = ()
    sha256: str = ""
    threads: int = 1
    warmup: int = 1
    samples: int = 1
    time_ms: int = 0
    outputs: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of one runner.

    files: name on the phone, in a folder of the bundle's own → file here. argv: how to start it in that folder.
    library: the runtime's, for --library; "" to name none. program: the runner itself; sha256: its own. abi: what it
    was built for in Android's words, "" where its file does not tell (a script). tool: a runner that keeps another
    contract than ours.
    """

    files: Mapping[str, Path]
    executables: frozenset[str]
    argv: tuple[str, ...]
    library: str
    program: Path
    sha256: str
    abi: str
    tool: foreign.Tool | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, request: Request) -> list[str]:
        """The words that start it for one request. Raises ValueError for what this tool cannot do."""
        if self.tool is not None:
            if request.mode != "time":
                raise ValueError(f"{self.tool.name} only measures time: it cannot {request.mode} a model")
            start, last = list(self.argv[:-1]), self.argv[-1]
            seconds = request.time_ms / 1000 if self.tool.min_seconds else 0.0
            return start + foreign.argv(
                self.tool, last, request.model, request.threads, request.samples, request.warmup, min_seconds=seconds
            )
        words = [*self.argv, *(["--library", self.library] if self.library else []), "--model", request.model]
        words += ["--mode", request.mode, "--threads", str(request.threads)]
        if request.sha256:
            words += ["--sha256", request.sha256]
        for path in request.inputs:
            words += ["--input", path]
        if request.mode == "run":
            words += ["--output-dir", request.outputs]
        if request.mode == "time":
            words += ["--warmup", str(request.warmup), "--samples", str(request.samples)]
            words += ["--time-ms", str(request.time_ms)]
        return words

    def answer(
        self, request: Request, stdout: str, stderr: str, logcat: str = "", pid: int | None = None
    ) -> dict[str, Any]:
        """What it said, as our runners' JSON; what a foreign tool does not say is None. Raises BadOutput."""
        if self.tool is None:
            return own_answer(stdout, stderr, request.mode)
        result = parse.read(self.tool, stdout, stderr, logcat, pid=pid)
        return {
            "runtime": self.tool.runtime,
            "runtime_version": "",
            "model_sha256": request.sha256,  # it does not say; the file was pushed with this hash
            "load_ms": result.load_ms,
            "samples_ms": list(foreign.values(self.tool, result, request.warmup)),
            "peak_rss_bytes": result.peak_rss_bytes,
            "loaded_rss_bytes": None,
            "inputs": [],
            "outputs": [],
            "warnings": [*result.warnings, *self.tool.cannot],
        }


def own_bundle(runner: Path, library: Path, system: Path) -> Bundle:
    """Our runner for one runtime. library: the runtime's aarch64 library. system: folder of the arm64 loader and C and
    C++ libraries. A folder `RUNNER.libs` beside the runner belongs to it, and the library's parts to the library.
    Raises BadFile.
    """
    files = {LOADER: system / LOADER, runner.name: runner, f"lib/{library.name}": library}
    files |= {f"lib/{path.name}": path for path in parts_beside(library)}
    beside = runner.with_name(f"{runner.name}.libs")
    if beside.is_dir():
        files |= {f"{beside.name}/{path.name}": path for path in sorted(beside.iterdir()) if path.is_file()}
    files |= {f"lib/{name}": system / name for name in needed(checked(files).values(), system)}
    return Bundle(
        files=checked(files),
        executables=frozenset({LOADER, runner.name}),
        argv=(f"./{LOADER}", "--library-path", "lib", f"./{runner.name}"),
        library=f"lib/{library.name}",
        program=runner,
        sha256=sha256_of(runner),
        abi=abi_of(runner),
        environment={"ORT_DISABLE_TELEMETRY": "1"},
    )


def user_bundle(program: Path, library: Path | None = None, tool: foreign.Tool | None = None) -> Bundle:
    """A user's own program (`--runner FILE`), started as it is: an NDK build of our runners or a script that keeps
    their contract, or one of the tools in `foreign`. library: the runtime's for it, for --library. Raises BadFile.
    """
    files, kept = {"runner": program}, ""
    if library is not None:
        # Its own name, by which other libraries may ask for it, unless that is a strange one.
        kept = f"lib/{library.name if re.fullmatch(r'[A-Za-z0-9._+-]+', library.name) else 'library.so'}"
        files[kept] = library
    return Bundle(
        files=checked(files),
        executables=frozenset({"runner"}),
        argv=("./runner",),
        library=kept,
        program=program,
        sha256=sha256_of(program),
        abi=abi_of(program),
        tool=tool,
        # Where an NDK build looks for libc++_shared.so and its like: beside itself. Android has no RUNPATH for it.
        environment={"LD_LIBRARY_PATH": "lib"} if library else {},
    )


def parts_beside(library: Path) -> tuple[Path, ...]:
    """The further libraries of a runtime that comes as several: libNAME_PART.so beside libNAME.so."""
    name = library.name.partition(".so")[0]
    found = (path for path in library.parent.iterdir() if path.name.startswith(f"{name}_") and ".so" in path.name)
    return tuple(sorted(path for path in found if path.is_file()))


def needed(programs: Iterable[Path], system: Path) -> tuple[str, ...]:
    """Which of SYSTEM's libraries these ELF files name, and those name in turn. Raises BadFile.

    A NEEDED entry is a name in the file's string table, between zero bytes: other uses of such a name cost one file too
    many, and none can be missed.
    """
    found: set[str] = set()
    left = list(programs)
    while left:
        content = _content(left.pop())
        new = {name for name in SYSTEM if b"\0%s\0" % name.encode() in content} - found
        found |= new
        left += [system / name for name in new]
    return tuple(name for name in SYSTEM if name in found)


def checked(files: Mapping[str, Path]) -> dict[str, Path]:
    """The same files. Raises BadFile for what is none."""
    for name, path in files.items():
        if not path.is_file():
            raise BadFile(f"{path}, needed on the phone as {name}, is not a file", "check the path")
    return dict(files)


def abi_of(program: Path) -> str:
    """Android's name of the processor that an ELF file is for, or the machine's number; "" for no ELF file.

    Source: elf(5); e_machine is the 16-bit number at offset 18, in the byte order of byte 5.
    """
    head = _content(program, 20)
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return ""
    (machine,) = struct.unpack("<H" if head[5] == 1 else ">H", head[18:20])
    return _ABIS.get(machine, f"ELF machine {machine}")


def _content(path: Path, size_bytes: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size_bytes)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", "check the path") from None


def own_answer(stdout: str, stderr: str, mode: Mode) -> dict[str, Any]:
    """The JSON line of a runner that keeps our contract, its fields and their kinds checked. Raises BadOutput."""
    try:
        answer = json.loads(stdout, parse_constant=_no_constant)
    except ValueError:
        raise BadOutput(
            f"wanted one line of JSON from the runner, found {_shown(stdout)}",
            "a runner must keep the contract in android_bench/runner/README.md; its last words were: "
            + _shown("\n".join(stderr.splitlines()[-3:])),
        ) from None
    if not isinstance(answer, dict):
        raise BadOutput(f"wanted a JSON object from the runner, found {_shown(stdout)}")
    wanted: dict[str, tuple[type, ...]] = {
        "runtime": (str,), "runtime_version": (str,), "model_sha256": (str,), "load_ms": (int, float),
        "samples_ms": (list,), "peak_rss_bytes": (int,), "loaded_rss_bytes": (int,), "inputs": (list,),
        "outputs": (list,),
    }  # fmt: skip
    for name, kinds in wanted.items():
        if not isinstance(answer.get(name), kinds) or isinstance(answer.get(name), bool):
            found = _shown(json.dumps(answer[name])) if name in answer else "no such field"
            raise BadOutput(f"wanted {name} ({kinds[0].__name__}) in the runner's answer, found {found}")
    samples = answer["samples_ms"]
    if not all(isinstance(ms, int | float) and not isinstance(ms, bool) and ms >= 0 for ms in samples):
        raise BadOutput(f"wanted times of 0 ms or more from the runner, found {_shown(json.dumps(samples))}")
    if mode == "time" and not samples:
        raise BadOutput("wanted at least one timed inference from the runner, found none")
    return answer


def without_start_log(stderr: str) -> str:
    """What a runner said, without what the runtimes log at every start."""
    return "\n".join(line for line in stderr.splitlines() if line.strip() and not _START_LOG.match(line))


def _no_constant(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 200 else text[:200] + "…") if text else "nothing"
