"""Model files to benchmark, with samples: stored targets of a recipe, or files of the user."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.errors import RecipeError, ToolFailed, describe_exit
from pocketforge.facts.gather import gather
from pocketforge.files import refuse_special
from pocketforge.outcomes import files as files_of
from pocketforge.outcomes.elsewhere import fed
from pocketforge.outcomes.export import Exported
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Recipe, suggest
from pocketforge.registries import file_formats, nearest_formats
from pocketforge.run.reuse import reusable
from pocketforge.run.store import Entry, Store
from pocketforge.runtimes.describe import contents_of, format_of


@dataclass(frozen=True, slots=True)
class File:
    """A model file to benchmark.

    Attributes:
        name: The target's, or the file's.
        path: Where it lies.
        runtime: That runs it.
        inputs: Samples: a .npy for each of its inputs.
        entries: The stored results that these are of, which stay as long as this is kept.
    """

    name: str
    path: Path
    runtime: str
    inputs: tuple[Path, ...]
    entries: tuple[Entry, ...] = ()


def stored_files(recipe: Recipe, cache: Path, names: Sequence[str]) -> list[File]:
    """Built targets of a recipe, all when none are named. Raises RecipeError for unknown names or unbuilt targets."""
    known = [t.name for t in recipe.targets]
    for name in names:
        if name not in known:
            raise RecipeError(f"no target is named {name!r}{suggest(name, known)}")
    plan = make_plan(recipe, gather(recipe, cache))
    store = Store(cache)
    fits = reusable(plan, store)
    files = []
    for lane in plan.lanes:
        if not names or lane.target.name in names:
            data = stored(store, fits, lane.data, "the recipe's data")
            entry = stored(store, fits, lane.export, f"target {lane.target.name!r}")
            inputs = fed(entry.files, sample_paths(data.files, "eval"))
            model = files_of.read(entry.files, Exported).model_in(entry.files)
            files.append(File(lane.target.name, model, lane.target.runtime, inputs, (data, entry)))
    return files


def stored(store: Store, fits: Collection[str], key: str, what: str) -> Entry:
    """A step's result, as it would be reused. Raises RecipeError."""
    entry = store.get(key)  # first: of a damaged one nothing is known, and that is said
    if entry is None or key not in fits:
        raise RecipeError(f"{what} is not built, or changed since", "pocketforge build RECIPE builds it")
    return entry


def given_file(path: Path, inputs: Sequence[Path]) -> File:
    """A model file of the user's, with samples from .npy files.

    Raises RecipeError for a file that is not there or of no known kind, and for samples that cannot be fed.
    """
    near = nearest_formats()
    formats = near if path.suffix in near else file_formats()
    runtimes = {suffix: runtime for suffix, (runtime, _) in formats.items()}
    if path.suffix not in runtimes:
        known = ", ".join(sorted(runtimes))
        raise RecipeError(f"cannot tell the runtime of {path.name}", f"known endings: {known}, and .toml for a recipe")
    if not path.is_file():
        raise RecipeError(f"no model file at {path}")
    ending = format_of(path)
    if ending != path.suffix.removeprefix("."):
        raise RecipeError(
            f"{path.name} is a .{ending} file by its content",
            f"give it that ending, so that its runtime runs it: .{ending}",
        )
    if not inputs:
        contents_of(path)  # whatever samples it were given, a damaged file does not run
        raise RecipeError(
            f"{path.name} needs samples to run on: --inputs SAMPLES.npy for each of its inputs, samples first",
            "real samples: timings on zeros or noise are not those of your data",
        )
    counts = {str(file): _count_samples(file) for file in inputs}
    if len(set(counts.values())) > 1:
        faults = [f"{file}: {count}" for file, count in counts.items()]
        raise RecipeError("every input needs as many samples as the others, found:", faults=faults)
    return File(path.name, path, runtimes[path.suffix], tuple(inputs))


def _count_samples(file: Path) -> int:
    try:
        refuse_special(file)
        samples = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its bytes happen to ask for
        raise RecipeError(f"wanted a .npy file of numbers, found {file}: {error}") from None
    if not isinstance(samples, np.ndarray) or samples.dtype.kind not in "biuf" or samples.ndim == 0 or not len(samples):
        content = f"{samples.dtype} {list(samples.shape)}" if isinstance(samples, np.ndarray) else "several arrays"
        raise RecipeError(f"wanted an array of numbers with at least one sample, found {content} in {file}")
    return len(samples)


def reason_of(error: ToolFailed) -> str:
    """What the runtime said, without the Python frames it passed through."""
    lines = [line for line in error.stderr_tail.splitlines() if line.strip() and line[0] not in " \t"]
    lines = [line for line in lines if not line.startswith("Traceback")]
    # The runner ends with the exception's own name and text, which the traceback had with its module.
    if not lines:
        return describe_exit(error.returncode)
    last = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not after or not line.endswith(after)]
    # Killed by a signal, a program said at most what it was doing: the signal is why it ended.
    return "\n  ".join([error.signal, *last[-4:]] if error.signal else last[-4:])
