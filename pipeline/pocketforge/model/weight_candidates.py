"""Every way to read a checkpoint's tensors as a model's: which container, which prefix, which wrapper's names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pocketforge.model.weight_files import plain
from pocketforge.model.weight_forms import whole_name
from pocketforge.model.weight_trees import StateDict

# What torch.compile, FSDP, activation checkpointing, Lightning and (Distributed)DataParallel put between names.
_WRAPPERS = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module", "_module"}
)
TOP = "."  # the weights_key of what lies at the top of a file
_MOST_PREFIXES, _MOST_STATES, _MOST_STRANGERS = 8, 2000, 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """Tensors under the names that they would be loaded by.

    Attributes:
        label: The weights_key that chooses it.
        full: The label, with a prefix that all of its names have.
        state: Tensors by name; also what set_extra_state() takes.
        versions: Torch's `_metadata`: module name → its version.
        aside: Other entries of the same state dict.
        done: How it came from the file, in words.
    """

    label: str
    full: str
    state: dict[str, object]
    versions: dict[str, dict[str, object]]
    aside: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


def candidates(states: Sequence[StateDict], wanted: Iterable[str]) -> list[Candidate]:
    """wanted: the model's names. As it stands in the file comes before what is taken off or put together."""
    names = set(wanted)
    wholes = names | {whole_name(name) for name in names}
    distinct: dict[tuple[object, ...], Candidate] = {}
    # An optimizer's state has a small dict for each parameter.
    largest = sorted(states, key=lambda s: -len(s.values))[:_MOST_STRANGERS]
    for state in states[:_MOST_STATES]:
        if (
            all(state is not large for large in largest)
            and not _prefixes(state.values, wholes)
            and not wholes & state.values.keys()
        ):
            continue
        for candidate in _of_one(state, names, wholes):
            distinct.setdefault((candidate.label, *sorted((k, id(v)) for k, v in candidate.state.items())), candidate)
    for candidate in _joined(states, names):
        distinct.setdefault((candidate.label, *sorted((k, id(v)) for k, v in candidate.state.items())), candidate)
    return list(distinct.values())


def _of_one(state: StateDict, names: set[str], wholes: set[str]) -> Iterator[Candidate]:
    label = state.label or TOP
    words = [f"taken from {state.label!r}"] if state.path else []
    if state.beside:
        words.append(f"left out, no tensors: {short(state.beside)}")
    bases: list[tuple[dict[str, str], Callable[[str], str], list[str]]] = [({n: n for n in state.values}, str, words)]
    unwrapped = {_unwrap(name): name for name in state.values}
    if len(unwrapped) == len(state.values) and any(new != old for new, old in unwrapped.items()):
        wrappers = sorted({part for name in state.values for part in name.split(".")[:-1] if part in _WRAPPERS})
        bases.append((unwrapped, _unwrap, [*words, f"{' and '.join(map(repr, wrappers))} taken out of names"]))
    for to_old, rename, done in bases:
        yield _candidate(state, label, "", to_old, rename, done)
        for prefix in _prefixes(to_old, wholes):
            inner = {new.removeprefix(prefix): old for new, old in to_old.items() if new.startswith(prefix)}
            off = [*done, f"prefix {prefix!r} taken off {len(inner)} names"]
            yield _candidate(state, label, prefix, inner, _without(prefix, rename), off)
    for added in _common_prefixes(names):
        if not any(name.startswith(added) for name in state.values):
            put = {added + name: name for name in state.values}
            yield _candidate(
                state, label, "", put, _with(added), [*words, f"prefix {added!r} put before {len(put)} names"]
            )


def _candidate(
    state: StateDict, label: str, prefix: str, to_old: Mapping[str, str], rename: Callable[[str], str], done: list[str]
) -> Candidate:
    taken = set(to_old.values())
    aside = tuple(name for name in state.values if name not in taken)
    place = prefix.removesuffix(".")
    full = ".".join(part for part in ("" if label == TOP else label, place) if part) or TOP
    if aside:
        done = [*done, f"{len(aside)} other entries left out: {short(aside)}"]
    versions = {rename(name): version for name, version in state.versions.items()}
    values = {new: state.values[old] for new, old in to_old.items()}
    return Candidate(full if aside else label, full, values, versions, aside, tuple(done))


def _unwrap(name: str) -> str:
    parts = name.split(".")
    return ".".join(part for part in parts if part not in _WRAPPERS)


def _without(prefix: str, rename: Callable[[str], str]) -> Callable[[str], str]:
    # `_metadata` is by module, whose name has no dot at its end.
    return lambda name: f"{rename(name)}.".removeprefix(prefix).removesuffix(".")


def _with(prefix: str) -> Callable[[str], str]:
    return lambda name: f"{prefix}{name}".removesuffix(".")


def _prefixes(names: Iterable[str], wholes: set[str]) -> list[str]:
    """Beginnings after which names of the model come, and the one that all names have; the most common first."""
    count: Counter[str] = Counter()
    listed_names = list(names)
    for name in listed_names:
        at = name.find(".")
        while at >= 0:
            rest = name[at + 1 :]
            if rest in wholes or whole_name(rest) in wholes:
                count[name[: at + 1]] += 1
            at = name.find(".", at + 1)
    # A model whose hooks rename has none of its names in the file.
    return list(dict.fromkeys([p for p, _ in count.most_common(_MOST_PREFIXES)] + _common_prefixes(listed_names)[:2]))


def _common_prefixes(names: Iterable[str]) -> list[str]:
    prefixes: list[str] = []
    rows = [name.split(".")[:-1] for name in names]
    for parts in zip(*rows, strict=False):
        if len(set(parts)) > 1:
            break
        prefixes.append((prefixes[-1] if prefixes else "") + parts[0] + ".")
    return prefixes


def _joined(states: Sequence[StateDict], names: set[str]) -> Iterator[Candidate]:
    """State dicts of a model's parts, each under the part's name: {"encoder": …, "head": …}."""
    roots = {name.partition(".")[0] for name in names}
    parents = dict.fromkeys(state.path[:depth] for state in states[:_MOST_STATES] for depth in range(len(state.path)))
    for parent in list(parents)[:20]:
        inside = [s for s in states if s.path[: len(parent)] == parent and len(s.path) > len(parent)]
        parts = [s for s in inside if s.path[len(parent)] in roots]
        if not parts:
            continue
        values = {f"{'.'.join(s.path[len(parent) :])}.{name}": v for s in parts for name, v in s.values.items()}
        label = ".".join(parent) or TOP
        where = f" of {'.'.join(parent)!r}" if parent else ""
        roots_here = list(dict.fromkeys(s.path[len(parent)] for s in parts))
        yield Candidate(label, label, values, {}, (), (f"the parts {short(roots_here)}{where} joined",))


def short(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more."""
    more = f" … and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(plain(str(name)) for name in names[:most]) + more
