"""What was found of an app's tensors, as a verdict: right, a mistake, several that explain it equally, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError
from pocketforge.outcomes.why_app import AppExplained, AppExplanation, AppTensor, AppVerdict
from pocketforge.why.app_chain import Chain
from pocketforge.why.app_dumps import Dump, comparable, finite
from pocketforge.why.app_mistakes import Mistake
from pocketforge.why.app_search import EXPLAINS, SAME, Search, Tried, as_good, best_of, likely_samples

# Two mistakes are said, and a mistake where the right input is near already, only where they are so much nearer.
_BETTER = 0.5
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Way:
    """One way over all tensors.

    Attributes:
        mistakes: None is the right way.
        found: Of each tensor.
    """

    mistakes: tuple[Mistake, ...]
    found: tuple[Tried, ...]

    @property
    def error(self) -> float:
        return float(np.sqrt(np.mean([each.error**2 for each in self.found])))

    @property
    def weighed(self) -> float:
        """For the order: two mistakes at once have to be much nearer than one."""
        return self.error / (_BETTER if len(self.mistakes) > 1 else 1.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the search came to.

    Attributes:
        explained: In the words of app.json; without a target's name and a cost.
        best: The mistakes of the best explanation; empty where the input is right.
    """

    explained: AppExplained
    best: tuple[Mistake, ...]


def explain(chain: Chain, raw: Sequence[Array], ids: Sequence[str], dumps: Sequence[Dump],
            named: Sequence[int | None]) -> Answer:  # fmt: skip
    """Search. raw, ids: of the eval samples. named: place of each tensor's sample; None where it is searched for.

    Raises ModelError for a tensor whose values are not finite and that no order of bytes explains.
    """
    chain, notes = _as_dumped(chain, dumps)
    search = Search(chain, raw)
    numbers = [comparable(dump, chain.taken) for dump in dumps]
    samples = [
        [place] if place is not None else likely_samples(chain, raw, each)
        for each, place in zip(numbers, named, strict=True)
    ]
    singles = [search.singles(each, places) for each, places in zip(numbers, samples, strict=True)]
    ways = _over_all(singles)
    right = next((way for way in ways if not way.mistakes), None)
    if right is None:
        raise ModelError("--app: the recipe's own steps make no input of this file's size of its eval samples")
    if right.error > EXPLAINS and ways[0].error > SAME:
        nearest = [_nearest(found) for found in singles]
        pairs = [search.pairs(each, places) for each, places in zip(numbers, nearest, strict=True)]
        ways = sorted([*ways, *_over_all(pairs)], key=lambda way: way.weighed)
        singles = [[*one, *other] for one, other in zip(singles, pairs, strict=True)]
    for dump, found in zip(dumps, singles, strict=True):
        if not finite(dump.numbers) and min(each.error for each in found) > EXPLAINS:
            bad = int(dump.numbers.size - np.isfinite(dump.numbers).sum())
            raise ModelError(
                f"--app: {dump.name} has {bad} of {dump.numbers.size} values that are NaN or infinite",
                "is it the buffer's own type (--dtype), dumped after it was filled?",
            )
    verdict, shown = _judged(ways, right, singles)
    tensors = tuple(
        _tensor(dump, tried, found, ids, place is not None)
        for dump, tried, found, place in zip(dumps, shown[0].found, singles, named, strict=True)
    )
    explanations = tuple(_explanation(way) for way in shown)
    taken = f"{chain.taken} {chain.taken.layout}".strip()
    explained = AppExplained(
        "", chain.taken.name, taken, verdict, explanations, tensors, search.tried, len(raw), (), tuple(notes)
    )
    best = shown[0].mistakes if verdict in ("mistake", "several") else ()
    return Answer(replace(explained, sentence=sentence(explained)), best)


def _as_dumped(chain: Chain, dumps: Sequence[Dump]) -> tuple[Chain, list[str]]:
    """Real values of a file that takes levels were dumped before the app quantized them."""
    taken = chain.taken
    notes = []
    kinds = {dump.numbers.dtype.kind for dump in dumps}
    if np.dtype(taken.dtype).kind in "iu" and kinds == {"f"}:
        notes.append(f"the tensors are floats and the file takes {taken.dtype}: looked at before they are quantized")
        chain = replace(chain, taken=replace(taken, dtype="float32", scale=None, zero_point=None))
    elif np.dtype(taken.dtype).kind == "f" and kinds <= {"i", "u"}:
        notes.append(f"the tensors are integers, and the file takes {taken.dtype}: their values are compared")
    return chain, notes


def _over_all(found: Sequence[Sequence[Tried]]) -> list[Way]:
    """Ways that could be tried with each tensor, from the best."""
    best = [best_of(each) for each in found]
    names = [name for name in best[0] if all(name in each for each in best)]
    ways = [Way(best[0][name].mistakes, tuple(each[name] for each in best)) for name in names]
    return sorted(ways, key=lambda way: way.weighed)


def _nearest(found: Sequence[Tried]) -> list[int]:
    """Samples, by how much some way with one mistake makes them the tensor's picture."""
    order = sorted(found, key=lambda each: each.unlike)
    return list(dict.fromkeys(each.sample for each in order))


def _judged(ways: Sequence[Way], right: Way, singles: Sequence[Sequence[Tried]]) -> tuple[AppVerdict, list[Way]]:
    """The verdict, and the ways to show: the first is the one that it is of."""
    best = ways[0]
    others = _unlike(ways)
    if right.error <= SAME:
        return "right", [right]
    if right.error <= EXPLAINS and best.error > _BETTER * right.error:
        return "near", [right, *(way for way in others if way is not right)][:_SHOWN]
    if best.error <= EXPLAINS:
        equal = [way for way in ways if len(way.mistakes) == len(best.mistakes) and as_good(best.error, way.error)]
        if len(equal) > 1:
            return "several", equal
        return "mistake", others[:_SHOWN]
    each = [min(one.error for one in found) for found in singles]
    return ("unlike" if len(each) > 1 and max(each) <= EXPLAINS else "nothing"), others[:_SHOWN]


def _unlike(ways: Sequence[Way]) -> list[Way]:
    """Without those that a further mistake changes nothing of."""
    seen: set[tuple[float, ...]] = set()
    found = []
    for way in ways:
        key = tuple(round(each.error, 12) for each in way.found)
        if key not in seen:
            seen.add(key)
            found.append(way)
    return found


def _explanation(way: Way) -> AppExplanation:
    return AppExplanation(
        tuple(each.name for each in way.mistakes),
        " and ".join(each.words for each in way.mistakes) or "the right input",
        tuple(dict.fromkeys(each.fix for each in way.mistakes)),
        _told(way.error),
        _told(max(each.max_abs_diff for each in way.found)),
        way.error <= EXPLAINS,
    )


def _tensor(dump: Dump, tried: Tried, found: Sequence[Tried], ids: Sequence[str], named: bool) -> AppTensor:
    best = min(found, key=lambda each: (each.error, len(each.mistakes)))
    sample = tried if tried.error <= EXPLAINS else best
    low, high = (float(f(dump.numbers)) for f in (np.min, np.max)) if finite(dump.numbers) else (0.0, 0.0)
    about = (dump.name, ids[sample.sample], named, str(dump.numbers.dtype), dump.shape, low, high)
    return AppTensor(*about, best.names, _told(best.error))


def _told(error: float) -> float:
    """Six digits; of bytes that are no numbers the largest there is, as JSON has no infinity."""
    return float(f"{min(error, 1e300):.6g}")


def sentence(explained: AppExplained) -> str:
    """All of it in one sentence."""
    best = explained.explanations[0]
    many = len(explained.tensors)
    whose = f"the app's input ({', '.join(each.file for each in explained.tensors[:3])}{' …' if many > 3 else ''})"
    if explained.verdict == "right":
        return f"{whose} is right: equal to the recipe's own within {best.max_abs_diff:g}"
    if explained.verdict == "near":
        return (
            f"{whose} is right but for small differences (error {best.error:.3g}, at most {best.max_abs_diff:g}): "
            "another decoder, or another resize's rounding; no known mistake explains them much better"
        )
    if explained.verdict == "mistake":
        return f"{whose} is {best.words} (error {best.error:.3g}): {'; '.join(best.fixes)}"
    if explained.verdict == "several":
        ways = "; or ".join(each.words for each in explained.explanations)
        return f"{whose} is explained equally by {len(explained.explanations)} mistakes, give more samples: {ways}"
    if explained.verdict == "unlike":
        each_one = "; ".join(
            f"{each.file} by {' and '.join(each.best) or 'nothing wrong'}" for each in explained.tensors
        )
        return f"no one mistake explains all of {whose}, each by itself is explained: {each_one}"
    return f"nothing known explains {whose}: nearest is {best.words}, with an error of {best.error:.3g}"
