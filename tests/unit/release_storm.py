"""A build's results written over earlier ones, killed at every line or on a disk of every size: a program of its own.

`python release_storm.py kill FOLDER [STRIDE]` forks a child for each (or each STRIDE-th) executed line of
results/output_folder.py, results/release.py, files.py and commands/build.py, which is killed there; `fallback` does so
for the lines of the swap on a system that cannot exchange two folders in one step; `store` for those of the store,
where results are made, made again, read, discarded and cleared; `full` fills the disk of FOLDER (a small one, of ours
alone) to every size. It prints one JSON object: what was found after each.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pocketforge.commands import build
from pocketforge.errors import StoreError
from pocketforge.files import explain_os_error
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.plan.steps import Lane, Plan
from pocketforge.recipe import Data, Model, Recipe, Target
from pocketforge.recipe.shipped_names import DOCUMENTS, SUMS
from pocketforge.records import Artifact, Report, TargetRecord
from pocketforge.release.inputs import Inputs
from pocketforge.results import output_folder, release
from pocketforge.run import pins, store
from pocketforge.run.store import Entry, Store
from pocketforge.run.walk import Outcome

WATCHED = {module.__file__ for module in (build, output_folder, release, sys.modules["pocketforge.files"])}
STORE_FILES = {module.__file__ for module in (store, pins, sys.modules["pocketforge.files"])}
KEYS = [hashlib.sha256(name.encode()).hexdigest() for name in ("over", "made", "gone")]
SWAP = ("commit", "_place", "_take_aside")
SAMPLED = Sampled(
    "digits", "classification", (), Counts(0, 0, 0, 0, 0, 0), {}, (), SampleTensor((), "int64"),
    Preprocessing(None, "NCHW", ()), None, (),
)  # fmt: skip
TENSOR = {"name": "x", "shape": [1, 2], "dtype": "float32", "layout": "", "scale": None, "zero_point": None}


Results = tuple[Recipe, Plan, Outcome, Report, Inputs]


def made(folder: Path, number: int, size: int = 3000) -> Results:
    """The results of a build, whose files, sidecars and report all tell which build it was."""
    source = folder / f"export{number}"
    source.mkdir(parents=True)
    names = {"model": "model.onnx", "ort": "model.ort"}
    artifacts = []
    for role, name in names.items():
        content = f"{number} {role} ".encode() * (size // 10)
        (source / name).write_bytes(content)
        path = "net.onnx" if role == "model" else "net.ort"
        artifacts.append(Artifact("k", role, path, hashlib.sha256(content).hexdigest(), len(content), 1))
    exported = {"files": names, "inputs": [TENSOR], "outputs": [TENSOR], "facts": {}}
    (source / "export.json").write_text(json.dumps(exported))
    files.write(source, SAMPLED)
    target = Target(name="net", runtime="onnx")
    recipe = Recipe(name="r", model=Model(definition="m.py"), data=Data(source="digits"), targets=(target,))
    record = TargetRecord("net", "onnx", "fp32", "built", tuple(artifacts))
    report = Report("r", f"build {number}", "PASS", (record,), (), (), ())
    plan = Plan((), "data", "reference", (Lane(target, "", "export", "verify", {}, "data", "reference"),))
    entry = Entry("k", source, {}, 0, 0.0, {})
    return recipe, plan, Outcome(entries={"data": entry, "export": entry}), report, Inputs()


def write(out: Path, results: Results) -> None:
    with output_folder.take(out), output_folder.drafted(out) as draft:
        (draft.folder / "why").mkdir()
        try:
            page = f"page of {results[3].recipe_sha256}"
            build.write_results(*results, out, draft, keep_failed=False, page=page)
        except OSError as error:  # as `build` does
            raise explain_os_error(error, out, "--out") from error


def found(out: Path) -> str:
    """Which build's release is there, whole; and which build's report."""
    folder = out / "release"
    if not folder.is_dir():
        return "no release"
    shipped = ("net.json", "net.onnx", "net.ort", "net.ort.json")
    if {path.name for path in folder.iterdir()} != {SUMS, *DOCUMENTS, *shipped}:
        return "a half release"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            return f"{name} is not what SHA256SUMS says"
    of = {json.loads((folder / f"net{end}").read_text())["recipe_sha256"] for end in (".json", ".ort.json")}
    of.add(f"build {(folder / 'net.onnx').read_bytes()[:1].decode()}")
    if len(of) > 1:
        return f"files of several builds: {of}"
    report = out / "report.json"
    told = json.loads(report.read_text())["recipe_sha256"] if report.exists() else "no report"
    page = out / "report.html"
    if report.exists() and page.exists() and page.read_text() != f"page of {told}":
        return f"a report of {told} beside {page.read_text()}"
    return f"release of {of.pop()}, {told if told == 'no report' else f'report of {told}'}"


def killed_at(count: int, work: Callable[[], object], files: Collection[str | None], within: Collection[str]) -> bool:
    """Whether a child that does `work` met its end at the count-th line of `files`, or of functions in them."""
    child = os.fork()
    if child == 0:
        left = count

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in files or (within and frame.f_code.co_name not in within):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def leftovers(out: Path) -> list[str]:
    known = {"report.json", "report.html", "release", "why"}
    return sorted({path.name[:13] for path in out.iterdir()} - known)


def kills(folder: Path, within: Collection[str] = (), stride: int = 1) -> dict[str, Any]:
    old, new = made(folder, 1), made(folder, 2)
    after, later = Counter[str](), Counter[str]()
    write(folder / "out", old)
    for done, count in enumerate(itertools.count(1, stride)):
        out = folder / f"out{count}"
        shutil.copytree(folder / "out", out)
        if not killed_at(count, functools.partial(write, out, new), WATCHED, within):
            return {"kills": done, "after": after, "later": later, "unkilled": found(out)}
        after[found(out)] += 1
        with output_folder.take(out):
            pass
        later[f"{found(out)}, left: {leftovers(out)}"] += 1
        shutil.rmtree(out)
    raise AssertionError("the lines have an end")


def put(kept: Store, key: str, text: str) -> None:
    with kept.workspace() as files:
        for name in ("a", "b"):
            (files / name).write_text(text)
        kept.publish(key, files, {"text": text})


def use_store(root: Path) -> None:
    kept = Store(root)
    with kept.lock(KEYS[0]):
        (kept.partial(KEYS[0]) / "half").touch()
        put(kept, KEYS[0], "new")  # over an old one
        kept.forget_partial(KEYS[0])
    put(kept, KEYS[1], "first")
    kept.touch(KEYS[1])
    used = kept.get(KEYS[1])
    kept.discard(KEYS[2])
    kept.clear(keep_bytes=0)
    assert used is not None and kept.keys() == [KEYS[1]]


def store_kills(folder: Path, stride: int) -> dict[str, Any]:
    put(Store(folder / "store"), KEYS[0], "old")
    put(Store(folder / "store"), KEYS[2], "old")
    after = Counter[str]()
    for done, count in enumerate(itertools.count(1, stride)):
        root = folder / f"store{count}"
        shutil.copytree(folder / "store", root)
        killed = killed_at(count, functools.partial(use_store, root), STORE_FILES, ())
        kept, state = Store(root), []
        for key in KEYS:
            entry = kept.get(key)  # raises when it is not whole
            texts = {(entry.files / name).read_text() for name in ("a", "b")} if entry else set()
            assert not entry or texts == {entry.meta["text"]}
            state.append("+".join(texts) or "-")
        left = {path.name.partition("-")[0] for path in (kept.root / "tmp").iterdir()}
        after[f"{' '.join(state)}, left: {sorted(left)}"] += 1
        del entry
        assert kept.clear().in_use == 0, "the dead use nothing"
        assert kept.keys() == []
        shutil.rmtree(root)
        if not killed:
            return {"kills": done, "after": after}
    raise AssertionError("the lines have an end")


def full_disks(folder: Path) -> dict[str, Any]:
    old, new = made(folder, 1), made(folder, 2)
    out, filler = folder / "out", folder / "filler"
    after, said = Counter[str](), Counter[str]()
    write(out, old)
    for left in range(0, 100_000, 2048):
        disk = os.statvfs(folder)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(disk.f_bavail * disk.f_frsize - left, 1))
        try:
            write(out, new)
        except StoreError as error:
            said[error.message.replace(str(out), "OUT")] += 1
            after[f"{found(out)}, left: {leftovers(out)}"] += 1
        else:
            break
        finally:
            filler.unlink()
    return {"after": after, "said": said, "at last": found(out)}


def main() -> None:
    what, folder, stride = sys.argv[1], Path(sys.argv[2]), int([*sys.argv, "1"][3])
    if what == "full":
        answer = full_disks(folder)
    elif what == "store":
        answer = store_kills(folder, stride)
    elif what == "fallback":
        output_folder.exchange = lambda *_: False  # type: ignore[attr-defined]
        answer = kills(folder, SWAP)
    else:
        answer = kills(folder, stride=stride)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
