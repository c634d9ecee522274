"""What is known of a metric: which way is better, its unit, where it is taken, how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from pocketforge.recipe.ranges import Range

Better = Literal["higher", "lower"]
Place = Literal["file", "model", "outputs", "timed", "emulated"]
# Between a metric and its limit.
SIGNS: Final[dict[Better, str]] = {"higher": "≥", "lower": "≤"}
Task = Literal["classification", "regression", "outputs", ""]


@dataclass(frozen=True, slots=True)
class Metric:
    """All that is known of one metric.

    Attributes:
        unit: Of its values, as reports say it; empty where they are shares or plain numbers.
        better: Which values are better. A budget is then a minimum or a maximum.
        place: Where it is taken. "file": from the file's bytes. "model": from the PyTorch model. "outputs": from the
            outputs of the file, on the host and on each device that computes with other kernels. "timed": on each
            device that keeps time. "emulated": on each emulated device.
        title: The head of its column in tables, with the unit.
        form: How tables write a value, as `format` takes it.
        limits: What a budget's limit may be: one that every file keeps, or none can, is a slip.
        task: The only task that has it; empty when all have.
        roles: Outputs of these roles have it; () where it is of no output's role.
        counted: Whether its values are ratios of counts (of samples, pixels, words): they and their drops are then
            computed from the counts, exactly, and a value at its limit keeps it. Others are rounded to 9 digits after
            the point.
        drop_of: The metric that it says the loss of, against the PyTorch model: positive is worse. Empty for any other.
        in_budgets: Whether [[budget]] may name it.
        of_task: Whether a recipe's `metric` may name it: a budget on `metric` is then on this one.
        column: Whether a report's table of measured values has a column for it, where it was measured. Sizes, latencies
            and what emulated devices give have tables of their own.
        taken_by: `module:function` that takes a file's path and gives the value; of "file" metrics alone, and empty for
            the two that every file's record has.
    """

    unit: str
    better: Better
    place: Place
    title: str
    form: str
    limits: Range
    task: Task | Literal[""] = ""
    roles: tuple[str, ...] = ()
    counted: bool = False
    drop_of: str = ""
    in_budgets: bool = True
    of_task: bool = False
    column: bool = False
    taken_by: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError: a row that lacks something is a fault of the program, or of a plug-in, and not a guess."""
        for what, value, known in (("better", self.better, get_args(Better)), ("place", self.place, get_args(Place))):
            if value not in known:
                raise ValueError(f"{what} of a metric must be one of {', '.join(known)}, found {value!r}")
        if not self.title:
            raise ValueError("title of a metric is empty: tables would have a column without a head")
        try:
            written = format(1.0, self.form)
        except ValueError as error:
            raise ValueError(f"form of a metric must be as format takes it, found {self.form!r}: {error}") from None
        if not self.form or not written:
            raise ValueError("form of a metric is empty: tables would show all digits of a float")
        if self.of_task and (self.place != "outputs" or not (self.task or self.roles)):
            raise ValueError("a metric of a task is of the outputs, and says of which task or of which roles")
        if self.taken_by and (self.place != "file" or not all(self.taken_by.partition(":"))):
            raise ValueError(f"taken_by is `module:function` of a metric of the file, found {self.taken_by!r}")

    @property
    def sign(self) -> str:
        """Between a metric and its limit."""
        return SIGNS[self.better]

    def keeps(self, value: float, limit: float) -> bool:
        return value >= limit if self.better == "higher" else value <= limit
