"""What each output of the model is: its role, what it is held against, by which metrics, and whether it is shipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import check_name
from pocketforge.recipe.output_loss import SETTINGS as LOSS_SETTINGS
from pocketforge.recipe.output_loss import UNTRAINED, OutputLoss
from pocketforge.recipe.ranges import COUNT, COUNT_OR_NONE, SHARE, Range, range_faults
from pocketforge.recipe.roles import ROLES, RoleName, TargetName
from pocketforge.recipe.target import OutputLimits
from pocketforge.recipe.typed_settings import TypedSettings
from pocketforge.recipe.user_words import USERS, user_code

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
# Those with settings of their own, and which those are.
SETTINGS: Mapping[str, frozenset[str]] = {
    "none": frozenset({"format", "normalized", "white"}),
    "nms": frozenset({"format", "normalized", "iou", "score", "most", "head", "across_classes"}),
    "argmax": frozenset({"upsample"}),
    "sigmoid": frozenset({"threshold", "upsample"}),
    "softmax": frozenset(),
    "normalize": frozenset(),
    "peak": frozenset(),
    "ctc_greedy": frozenset({"blank", "alphabet"}),
}
_WAYS = ("higher", "lower")


@dataclass(frozen=True, slots=True)
class UserMetric:
    """A metric of the user's: `file.py:function:higher` or `:lower`, whichever is better.

    Attributes:
        file: The code's, as the recipe writes it.
        name: Of the function or class, which is the metric's name too.
        better: Which values are.
    """

    file: str
    name: str
    better: Literal["higher", "lower"]

    @property
    def written(self) -> str:
        return f"{self.file}:{self.name}:{self.better}"


def user_metric(written: str) -> UserMetric | None:
    """None for what is no file of code. Raises ValueError where it does not say which values are better."""
    match = USERS.match(written)
    if match is None:
        return None
    better = match["better"]
    if better not in _WAYS:
        plain = f"{match['file']}:{match['name']}"
        found = f"found {written!r}"
        raise ValueError(f"say which values of {plain} are better: {plain}:higher or {plain}:lower, {found}")
    return UserMetric(match["file"], match["name"], "higher" if better == "higher" else "lower")


@dataclass(frozen=True, slots=True)
class Post(TypedSettings):
    """What is done to an output before it is held against its target; alike to PyTorch's and to the file's.

    Attributes:
        type: One of the role's (roles.py), or a user's `file.py:function`.
        threshold: Of sigmoid: from which probability on it holds, 0 to 1.
        upsample: Of a mask: scores are brought to the target's size first (bilinear), as apps do that show the mask.
        format: Of boxes: corners, corner and size, or centre and size.
        normalized: Whether boxes are shares of the input's width and height, not pixels.
        iou: Of nms: boxes that overlap a surer one by more are dropped, 0 to 1.
        score: Of nms: boxes less sure are dropped before, 0 to 1.
        most: Of nms: so many boxes of a sample are kept, the surest.
        across_classes: Of nms: whether boxes of another class drop one too.
        head: Of nms: how a single output holds boxes and scores. "rows": [1, n, 4 + classes], "columns": [1,
            4 + classes, n]; None where outputs of roles scores and classes hold them.
        white: Of images: the value that is white; targets are held to be of 0 to 1 (uint8: of 0 to 255).
        blank: Of ctc_greedy: the number of the blank.
        alphabet: Of ctc_greedy: the letters in the order of their numbers without the blank; empty for the labels'.
    """

    type: str = ""
    threshold: float = 0.5
    upsample: bool = False
    format: BoxFormat = "xyxy"
    normalized: bool = False
    iou: float = 0.5
    score: float = 0.05
    most: int = 100
    across_classes: bool = False
    head: Literal["rows", "columns"] | None = None
    white: float = 1.0
    blank: int = 0
    alphabet: str = ""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "threshold": SHARE,
        "iou": SHARE,
        "score": SHARE,
        "most": COUNT,
        "white": Range(0, 1e6, open_low=True),
        "blank": COUNT_OR_NONE,
    }

    def __post_init__(self) -> None:
        faults = self.settings_faults("post", SETTINGS)
        if faults:
            raise WrongTable(*faults)


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """Limits of one output, for all targets; a target's own verify.outputs wins. As `OutputLimits`, without a name.

    Attributes:
        min_sqnr_db: Least SQNR against the PyTorch reference, in dB.
        max_diff_ratio: Largest absolute difference from the reference over its largest magnitude, or over a channel's
            largest range where that is less.
        min_channel_sqnr_db: As min_sqnr_db, of the worst channel.
        min_region_sqnr_db: As min_sqnr_db, of the worst row or column of an image-like output.
        max_dead_channels: So many channels may answer one value where the reference varies.
        min_integer_agreement: Share of equal values of an integer or boolean output, 0 to 1.
        min_graph_sqnr_db: Least SQNR against the quantized graph in PyTorch, not the model before it, in dB.
        max_steps_from_graph: Largest difference from that graph, in steps of the output's scale.
    """

    min_sqnr_db: float | None = None
    max_diff_ratio: float | None = None
    min_channel_sqnr_db: float | None = None
    min_region_sqnr_db: float | None = None
    max_dead_channels: int | None = None
    min_integer_agreement: float | None = None
    min_graph_sqnr_db: float | None = None
    max_steps_from_graph: float | None = None

    RANGES: ClassVar[Mapping[str, Range]] = OutputLimits.RANGES

    def __post_init__(self) -> None:
        faults = [Fault(fault) for fault in range_faults(self)]
        if faults:
            raise WrongTable(*faults)

    def given(self) -> dict[str, float]:
        """Those that the recipe sets."""
        return {name: value for name in self.RANGES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the model, and what it is for.

    Attributes:
        role: What it is (roles.py).
        name: The model's, flattened, or one of model.outputs; empty for the only output.
        target: Which of a sample's targets it is held against; empty for the role's own.
        metrics: Names of METRICS that the role has, or a user's `file.py:function:higher` (or `:lower`); empty for the
            role's own.
        keep: Whether shipped files have it.
        post: What is done to it before it is judged; empty for the role's own.
        limits: How far it may be from PyTorch's, for all targets.
        loss: By what it is trained; empty for the role's own.
    """

    role: RoleName
    name: str = ""
    target: str = ""
    metrics: tuple[str, ...] = ()
    keep: bool = True
    post: Post = Post()
    limits: OwnLimits = OwnLimits()
    loss: OutputLoss = OutputLoss()  # noqa: RUF009 - frozen, so one for all does no harm

    def __post_init__(self) -> None:
        role, faults = ROLES[self.role], list[Fault]()
        if self.name:
            check_name(self.name, "an output's name")
        if self.target:
            check_name(self.target, "target")
        if not role.targets and self.target:
            faults.append(Fault(f"role {self.role} is held against no target, found {self.target!r}", "target"))
        if not role.metrics and self.metrics:
            of = "; metrics of a detector stand with its boxes" if self.role in ("scores", "classes") else ""
            faults.append(Fault(f"role {self.role} has no metrics of its own{of}", "metrics"))
        kind = self.post.type
        if kind and kind not in role.posts and user_code(kind) is None:
            able = ", ".join(role.posts)
            faults.append(Fault(f"role {self.role} has post {able} or file.py:function, found {kind!r}", "post"))
        kind = self.loss.type
        if kind and kind not in (*role.losses, UNTRAINED) and user_code(kind) is None:
            able = ", ".join((*role.losses, UNTRAINED))
            faults.append(Fault(f"role {self.role} has loss {able} or file.py:function, found {kind!r}", "loss"))
        else:
            faults += self._faults_of_settings()
        faults += [Fault(f"named twice: {name}", "metrics") for name in sorted(_twice(self.metric_names))]
        if faults:
            raise WrongTable(*faults)

    def _faults_of_settings(self) -> list[Fault]:
        """Settings of a loss that the output is not trained by: they would change nothing."""
        allowed = {"weight", *LOSS_SETTINGS.get(self.trained_by, ())}
        if self.role != "heatmap":
            allowed.discard("sigma")
        if self.role == "embedding" and self.kind_of_target != "label":
            allowed.discard("margin")
        if self.trained_by == UNTRAINED and self.role in ("state", "classes", "count"):
            allowed.discard("weight")
        of = f"an output of role {self.role} with loss {self.trained_by}"
        return [Fault(f"{name} is not of {of}", f"loss.{name}") for name in self.loss.given() if name not in allowed]

    @property
    def taken(self) -> tuple[str, ...]:
        """Its metrics as written, or the role's."""
        return self.metrics or ROLES[self.role].metrics

    @property
    def metric_names(self) -> tuple[str, ...]:
        """As `taken`, each by its name in budgets and reports."""
        return tuple(match["name"] if (match := USERS.match(written)) else written for written in self.taken)

    @property
    def user_metrics(self) -> tuple[UserMetric, ...]:
        """Those of the user's that say which values are better; the rules refuse others."""
        said = [written for written in self.metrics if (match := USERS.match(written)) and match["better"] in _WAYS]
        return tuple(own for written in said if (own := user_metric(written)))

    @property
    def processed(self) -> str:
        """The type of its post-processing."""
        return self.post.type or ROLES[self.role].posts[0]

    def post_in_words(self) -> dict[str, object]:
        """Its post-processing with the settings that matter to it: those set, and a threshold."""
        given = {name: getattr(self.post, name) for name in self.post.given()}
        needed = {"threshold": self.post.threshold} if self.processed == "sigmoid" and self.role != "scores" else {}
        if self.processed == "nms":
            needed = {name: getattr(self.post, name) for name in ("format", "iou", "score", "most")}
        return {"type": self.processed, **needed, **given}

    @property
    def trained_by(self) -> str:
        """Its loss: one of LossName, a user's `file.py:function`, or UNTRAINED."""
        role = ROLES[self.role]
        if self.loss.type or role.untrained:
            return self.loss.type or UNTRAINED
        if self.role == "segmentation" and self.processed == "none":  # class numbers have no gradient
            return UNTRAINED
        # One class, or not: the other loss of a mask.
        return "bce" if self.role == "segmentation" and self.processed == "sigmoid" else role.losses[0]

    @property
    def held_against(self) -> str:
        """The name of its target; empty where it has none."""
        own = ROLES[self.role].targets
        return self.target or (own[0] if own else "")

    @property
    def kind_of_target(self) -> TargetName:
        """What its target has to be: the role's kind of that name, else the role's first. Of roles with a target."""
        kinds = ROLES[self.role].targets
        return next((kind for kind in kinds if kind == self.held_against), kinds[0])

    @property
    def has_classes(self) -> bool:
        """Whether its numbers are of classes (or letters) that have names: those of data.labels, of the first such."""
        return bool(self.held_against) and self.kind_of_target in ("label", "labels", "mask", "boxes", "tags", "text")

    def named_files(self) -> dict[str, str]:
        code = user_code(self.loss.type)
        return self.judging_files() | ({"loss": code[0]} if code else {})

    def judging_files(self) -> dict[str, str]:
        """Those of the user's files by which it is judged: of a metric under its name, which may be that of a key."""
        code = user_code(self.post.type)
        files = {"post": code[0]} if code else {}
        keys = ("post", "loss")
        return files | {f"metrics.{m.name}" if m.name in keys else m.name: m.file for m in self.user_metrics}


def labelled(outputs: Iterable[Output]) -> Output | None:
    """The output whose classes (or letters) data.labels name: the first that has any."""
    return next((output for output in outputs if output.has_classes), None)


def output_of_task(task: str) -> Output:
    """The one that a task is about: class scores, or real numbers."""
    role: RoleName = "regression" if task == "regression" else "logits"
    return Output(role, metrics=ROLES[role].metrics)


def scores_classes(task: str, judged: Iterable[Output], output: str, position: int) -> bool:
    """Whether an output holds the scores of classes, of which the largest is the answer: of a task the first one."""
    if task != "outputs":
        return task == "classification" and position == 0
    return any(each.role == "logits" and each.name in ("", output) for each in judged)


def _twice(names: tuple[str, ...]) -> set[str]:
    return {name for name in names if names.count(name) > 1}
