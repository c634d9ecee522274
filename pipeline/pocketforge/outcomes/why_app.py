"""app.json: which mistake of preprocessing explains what an app fed to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

AppVerdict = Literal["right", "near", "mistake", "several", "unlike", "nothing"]


@dataclass(frozen=True, slots=True)
class AppExplanation:
    """One way that the tensors may have come about.

    Attributes:
        mistakes: Names of what was done wrong; none is the right input.
        words: What the app did, in words.
        fixes: What to do instead, one each.
        error: Root mean square of the difference over the standard deviation of the tensor itself, of all tensors.
        max_abs_diff: The largest difference, in the tensor's own numbers.
        explains: Whether the error is small enough.
    """

    mistakes: tuple[str, ...]
    words: str
    fixes: tuple[str, ...]
    error: float
    max_abs_diff: float
    explains: bool


@dataclass(frozen=True, slots=True)
class AppTensor:
    """One tensor that the app fed.

    Attributes:
        file: Where it was read.
        sample: The eval sample that it was taken for.
        named: Whether the sample was named; else it was searched for.
        dtype: Of the tensor.
        shape: As it was written.
        low: Its least value.
        high: Its largest.
        best: What explains it best by itself.
        error: Of that, as above.
    """

    file: str
    sample: str
    named: bool
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    best: tuple[str, ...]
    error: float


@dataclass(frozen=True, slots=True)
class AppCost:
    """What the mistake costs on the eval samples.

    Attributes:
        output: The output that the metric is of.
        metric: Its name.
        right: With the right input.
        wrong: With the mistake.
    """

    output: str
    metric: str
    right: float
    wrong: float


@dataclass(frozen=True, slots=True)
class AppExplained:
    """What `why --app` found.

    Attributes:
        target: The target whose file the app feeds.
        input: Name of the file's input.
        taken: What the file takes there, in words.
        verdict: right, near (right but for small differences), mistake, several (equally good ones), unlike (each
            tensor has another mistake) or nothing.
        explanations: The best, from the best.
        tensors: Each tensor.
        tried: How many ways were tried.
        samples: Eval samples that were searched, and that the cost is of.
        cost: Of the best explanation; none where the input is right, or nothing explains it.
        notes: What else is to be known, in words.
        sentence: All of it in one sentence.
    """

    FILE: ClassVar[str] = "app.json"

    target: str
    input: str
    taken: str
    verdict: AppVerdict
    explanations: tuple[AppExplanation, ...]
    tensors: tuple[AppTensor, ...]
    tried: int
    samples: int
    cost: tuple[AppCost, ...] = ()
    notes: tuple[str, ...] = ()
    sentence: str = ""

    @property
    def is_right(self) -> bool:
        return self.verdict in ("right", "near")
