"""Fetches what the tests' phones are made of: Debian's adb and adbd, a shell and toybox. Prints the folder.

    python tests/tools/fetch_phone.py

No root, and nothing is installed: adbd's package would start a service that listens to everyone, without a password.
The mirror and the keys are those of this machine's own /etc/apt. Made beside its place and renamed: whole or not there.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORMAT = 1
RELEASE = "bookworm"
BACKPORTS = f"{RELEASE}-backports"
# adb 34 is there; the release itself has 29 (its adbd cannot run outside Android).
FROM_BACKPORTS = ("adb", "adbd", "android-lib*")
CLIENT = (
    "adb", "adbd", "android-libbase", "android-libboringssl", "android-libcutils", "android-liblog",
    "android-libziparchive", "libbrotli1", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5",
    "libprotobuf32", "libsystemd0", "libudev1", "libusb-1.0-0", "libzstd1", "zlib1g",
)  # fmt: skip
# The C and C++ libraries: for adbd, which sees nothing of this machine; adb uses the machine's own.
C_LIBRARIES = ("libc6", "libgcc-s1", "libstdc++6")
# The phone's shell and its commands: for arm64, and for this machine, whose own start at once.
PROGRAMS = ("mksh", "toybox")
USERLAND = ("libcrypt1", *PROGRAMS)
LOADER = "ld-linux-x86-64.so.2"
USERLAND_LIBRARIES = (
    "lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu/libc.so.6", "lib/aarch64-linux-gnu/libm.so.6",
    "lib/aarch64-linux-gnu/libcrypt.so.1",
)  # fmt: skip


class FetchError(Exception):
    """Says what was wanted, what was found and what to try."""


@dataclass(frozen=True)
class Source:
    """An entry of /etc/apt that may have the release: where, and the keys as apt's one-line format takes them."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: Mapping[str, str]

    def lines(self) -> str:
        options = " ".join(["arch=amd64,arm64", *(f"{key}={value}" for key, value in self.options.items())])
        return "".join(f"deb [{options}] {self.uri} {suite} main\n" for suite in (RELEASE, BACKPORTS))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read_sources(apt: Path, keys: Path) -> list[Source]:
    """This machine's sources of Debian, likeliest first: those that name the release, then others of any release.

    keys: a folder for keys that are written out in a source's own text.
    """
    found: list[Source] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        if path.is_file():
            found += _one_line_sources(path.read_text(errors="replace"))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found += _deb822_sources(path.read_text(errors="replace"), keys)
    usable = [
        source for source in found
        if "main" in source.components
        and not any(suite.endswith("-security") or "/" in suite for suite in source.suites)
    ]  # fmt: skip
    unique = list({(source.uri, tuple(source.options.items())): source for source in reversed(usable)}.values())[::-1]
    return sorted(unique, key=lambda source: RELEASE not in source.suites)


def _one_line_sources(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            given = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
            yield Source(match[2], (match[3],), tuple(match[4].split()), _trust(given))


def _deb822_sources(text: str, keys: Path) -> Iterator[Source]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields: dict[str, str] = {}
        name = ""
        for line in lines:
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + "\n" + line[1:]
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        if "BEGIN PGP" in fields.get("signed-by", ""):
            # A lone dot is deb822's empty line.
            key = re.sub(r"(?m)^\s*\.$", "", fields["signed-by"]).strip() + "\n"
            path = keys / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.asc"
            path.write_text(key)
            fields["signed-by"] = str(path)
        for uri in fields.get("uris", "").split():
            suites, components = fields.get("suites", "").split(), fields.get("components", "").split()
            yield Source(uri, tuple(suites), tuple(components), _trust(fields))


def _trust(fields: Mapping[str, str]) -> dict[str, str]:
    kept = ("signed-by", "trusted")
    return {key: ",".join(fields[key].split()) for key in kept if fields.get(key)}


class Apt:
    """apt-get with a configuration of its own: a private state, no hooks; the machine's proxies and credentials."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "parts", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "state/status").touch()
        (folder / "sources.list").write_text(source.lines())
        pins = (f"Package: {name}\nPin: release n={BACKPORTS}\nPin-Priority: 900\n" for name in FROM_BACKPORTS)
        (folder / "preferences").write_text("\n".join(pins))
        for path in sorted(glob.glob("/etc/apt/apt.conf.d/*")):
            if os.access(path, os.R_OK) and os.path.isfile(path):
                shutil.copy(path, folder / "parts")
        # Hooks are for who installs; and as root, apt's own user cannot read a folder in root's home.
        (folder / "parts/zz-test-phone").write_text(
            "#clear APT::Update;\n#clear DPkg;\n"
            'APT::Sandbox::User "root";\nAPT::Get::List-Cleanup "false";\nAcquire::Languages "none";\n'
            'Acquire::Retries "3";\nAPT::Architecture "amd64";\n#clear APT::Architectures;\n'
            'APT::Architectures { "amd64"; "arm64"; };\n'
            f'Dir::State "{folder}/state";\nDir::State::status "{folder}/state/status";\nDir::Cache "{folder}/cache";\n'
            f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "-";\n'
            f'Dir::Etc::preferences "{folder}/preferences";\nDir::Etc::preferencesparts "-";\n'
        )
        (folder / "apt.conf").write_text(f'Dir::Etc::parts "{folder}/parts";\n')

    def __call__(self, *words: str) -> None:
        env = {
            **os.environ,
            "APT_CONFIG": str(self.folder / "apt.conf"),
            "LC_ALL": "C",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        done = subprocess.run(
            ["apt-get", "--quiet=2", *words], cwd=self.folder / "debs", env=env, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        # A mirror that cannot be reached is only a warning to `update`.
        trouble = [line for line in done.stderr.splitlines() if re.match(r"E:|W: (Failed|Some index)", line)]
        if done.returncode or trouble:
            told = "\n".join(f"  {line}" for line in trouble or done.stderr.splitlines()[-5:])
            raise FetchError(f"apt-get {words[0]} failed ({done.returncode}):\n{told}")


def fetch(folder: Path, sources: Sequence[Source]) -> dict[str, list[Path]]:
    """architecture → packages. Tries one source after the other. Raises FetchError with what each of them said."""
    names = {"amd64": (*CLIENT, *C_LIBRARIES, *USERLAND), "arm64": ("libc6", *USERLAND)}
    wanted = [f"{name}:{architecture}" for architecture in names for name in names[architecture]]
    failures = []
    for number, source in enumerate(sources):
        apt = Apt(folder / f"apt-{number}", source)
        try:
            say("reading the package lists of this machine's mirror")
            apt("update")
            say(f"fetching {len(wanted)} packages")
            apt("download", *wanted)
        except FetchError as error:
            failures.append(str(error))
            continue
        debs = sorted((apt.folder / "debs").glob("*.deb"))
        return {
            architecture: [path for path in debs if re.search(rf"_({architecture}|all)\.deb$", path.name)]
            for architecture in names
        }
    if not sources:
        raise FetchError("/etc/apt names no source of Debian with the component main; add one, or run this on Debian")
    raise FetchError(
        f"no source of this machine gave the packages of {RELEASE} and {BACKPORTS}:\n"
        + "\n".join(failures)
        + "\nCheck the network, and that /etc/apt names a mirror of Debian."
    )


def unpack(debs: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)
    return folder


def shared_libraries(unpacked: Path) -> dict[str, Path]:
    """name → file, links followed."""
    found = sorted(path for path in unpacked.rglob("*.so*") if path.is_file() and "gconv" not in path.parts)
    return {path.name: path.resolve() for path in found}


def assemble(debs: Mapping[str, Sequence[Path]], work: Path, made: Path) -> None:
    """The phone's parts, out of the packages: bin/ and lib/ of the client, adbd/, userland/ (arm64), userland-native/.

    Raises FetchError.
    """
    amd64, arm64 = (unpack(debs[architecture], work / architecture) for architecture in ("amd64", "arm64"))
    c_debs = [path for path in debs["amd64"] if path.name.split("_")[0] in C_LIBRARIES]
    c_names = shared_libraries(unpack(c_debs, work / "c"))
    pool = work / "pool"
    native = made / "userland-native"
    # Where Debian's loader looks for libraries, and where its programs look for the loader.
    native_libraries, native_loader = native / "lib/x86_64-linux-gnu", native / "lib64"
    folders = (pool, made / "bin", made / "lib", made / "adbd", made / "userland/bin", native / "bin")
    for folder in (*folders, native_libraries, native_loader):
        folder.mkdir(parents=True)
    for name, path in shared_libraries(amd64).items():
        shutil.copy(path, pool / name)
    for name in ("adb", "adbd"):
        shutil.copy(amd64 / "usr/lib/android-sdk/platform-tools" / name, pool)
    for name in PROGRAMS:
        shutil.copy(amd64 / "bin" / name, pool)
    for name in ("adbd", LOADER, *needed(pool, "adbd")):
        shutil.copy(pool / name, made / "adbd")
    # adb uses this machine's own C library, whose loader starts it.
    for name in ("adb", *(name for name in needed(pool, "adb") if name not in c_names)):
        shutil.copy(pool / name, made / "lib")
    client = made / "bin" / "adb"
    client.write_text('#!/bin/sh\nlib=${0%/*}/../lib\nexport LD_LIBRARY_PATH="$lib"\nexec "$lib/adb" "$@"\n')
    client.chmod(0o755)
    for name in PROGRAMS:
        shutil.copy(arm64 / "bin" / name, made / "userland/bin" / name)
        shutil.copy(pool / name, native / "bin" / name)
    for name in sorted({library for program in PROGRAMS for library in needed(pool, program)}):
        shutil.copy(pool / name, native_libraries)
    shutil.copy(pool / LOADER, native_loader)
    libraries = shared_libraries(arm64)
    for name in USERLAND_LIBRARIES:
        place = made / "userland" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(libraries[place.name], place)


def needed(pool: Path, program: str) -> list[str]:
    """Names of the libraries that a program of the pool loads, all in the pool. Raises FetchError."""
    listing = [str(pool / LOADER), "--library-path", str(pool), "--list", str(pool / program)]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    names = re.findall(r"^\s*(\S+) => (\S+)", done.stdout, re.MULTILINE)
    absent = [name for name, path in names if Path(path).parent != pool]
    if done.returncode or absent:
        raise FetchError(f"{program} lacks {', '.join(absent) or 'a library'}:\n{done.stdout}{done.stderr}".rstrip())
    return [name for name, _ in names if Path(name).name != LOADER]


def adb_version(made: Path) -> str:
    """That the client runs here. Raises FetchError."""
    done = subprocess.run([str(made / "bin/adb"), "version"], capture_output=True, text=True, check=False)
    match = re.search(r"^Version (\S+)", done.stdout, re.MULTILINE)
    if done.returncode or not match:
        raise FetchError(f"adb does not run here:\n{done.stdout}{done.stderr}")
    return match[1]


def target() -> Path:
    sys.path[:0] = [str(ROOT / "pipeline"), str(ROOT)]
    from pocketforge.folders import environments_dir

    return environments_dir() / f"test-phone-{FORMAT}"


def is_whole(folder: Path, made_by: str) -> bool:
    """Whether this script, as it is, made the folder, and every file of it is still there with its size."""
    try:
        stamp = json.loads((folder / "stamp.json").read_text())
        return stamp["made_by"] == made_by and all((folder / n).stat().st_size == s for n, s in stamp["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def make(folder: Path, made_by: str) -> None:
    """Raises FetchError."""
    if os.uname().machine != "x86_64":
        raise FetchError("test phones are made on x86-64 Linux only: their adbd runs on the machine's own processor")
    absent = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if absent:
        raise FetchError(
            f"{' and '.join(absent)} of Debian's apt and dpkg are needed and not here; "
            f"run this on Debian 12, then copy {folder} to the same place on this machine"
        )
    work = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        (work / "keys").mkdir()
        debs = fetch(work, read_sources(Path("/etc/apt"), work / "keys"))
        made = work / "made"
        made.mkdir()
        assemble(debs, work, made)
        version = adb_version(made)
        files = {str(p.relative_to(made)): p.stat().st_size for p in sorted(made.rglob("*")) if p.is_file()}
        packages = sorted(deb.name for some in debs.values() for deb in some)
        stamp = {"made_by": made_by, "adb": version, "packages": packages, "files": files}
        (made / "stamp.json").write_text(json.dumps(stamp, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        say(f"adb and adbd {version}, {sum(files.values()):,} bytes")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    from filelock import FileLock

    folder = target()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    with FileLock(f"{folder}.lock"):
        if not is_whole(folder, made_by):
            try:
                make(folder, made_by)
            except FetchError as error:
                say(f"fetch_phone: {error}")
                return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
