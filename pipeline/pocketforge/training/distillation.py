"""Learning from a teacher: its outputs (KD, DKD), its layers' outputs (hints) and where it looks (attention transfer).

Hinton et al. 2015; Zhao et al. 2022 (arXiv:2203.08679); Romero et al. 2015 (FitNets); Zagoruyko & Komodakis 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketforge.errors import ModelError
from pocketforge.model.structure import leaves, names_of
from pocketforge.recipe import suggest
from pocketforge.recipe.compress import Distill, LayerPair
from pocketforge.recipe.loss_rules import taught
from pocketforge.recipe.output_loss import UNTRAINED, OutputLoss
from pocketforge.training.batches import BatchTargets, Inputs, NamedTargets
from pocketforge.training.objective import Outputs
from pocketforge.training.role_losses import RoleLosses
from pocketforge.training.role_teaching import RoleTeaching, as_scores


def kd_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² × KL(teacher ‖ student), both softened by the temperature T; mean over the batch. Logits (batch, classes)."""
    soft = functional.log_softmax(teacher / temperature, 1)
    learned = functional.log_softmax(student / temperature, 1)
    return functional.kl_div(learned, soft, reduction="batchmean", log_target=True) * temperature**2


def dkd_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Decoupled KD: alpha × TCKD + beta × NCKD, each times T²; mean over the batch. Logits (batch, classes).

    TCKD is the divergence of (target class, all others together), NCKD that of the other classes among themselves.
    Equal to the authors' code (mdistiller) where that is exact; here in log space, so nothing underflows.
    """
    target = functional.one_hot(labels, student.shape[1]).bool()
    others = [(x / temperature)[~target].view(len(x), -1) for x in (student, teacher)]
    two = []
    for x, rest in zip((student, teacher), others, strict=True):
        pair = torch.stack([(x / temperature)[target], rest.logsumexp(1)], 1)
        two.append(functional.log_softmax(pair, 1))
    tckd = functional.kl_div(two[0], two[1], reduction="batchmean", log_target=True)
    learned, soft = (functional.log_softmax(rest, 1) for rest in others)
    nckd = functional.kl_div(learned, soft, reduction="batchmean", log_target=True)
    return (alpha * tckd + beta * nckd) * temperature**2


def attention_map(features: Tensor) -> Tensor:
    """Where a layer looks: squares summed over channels, as a vector of length 1 a sample.

    Features (batch, channels, height, width) or (batch, tokens, channels).
    """
    squares = features.float().square().sum(1 if features.ndim == 4 else 2)
    return functional.normalize(squares.flatten(1), dim=1)


class DistillationLoss:
    """The loss of a student that learns from a teacher:

        alpha × KD + (1 - alpha) × labels' loss + hint_weight × Σ hints + attention_weight × Σ attention

    with DKD in KD's place for method dkd (its authors add the labels' loss with weight 1 and raise DKD over the first
    epochs; here alpha shares between them in both methods, and nothing is raised). A hint is the mean square error
    between two layers' outputs, the student's through a learned linear map (1×1 convolution for images) that is
    trained along and thrown away. Attention is the mean square difference of two layers' attention maps, as in its
    authors' code (weight 1000). Images of unequal size: the larger is averaged down to the smaller.

    Of outputs with roles KD is each output's own (role_teaching.py), and dkd is for one of role logits.

    The teacher runs in eval mode without gradients on the very inputs that the student gets, and is never changed.
    Raises ModelError when teacher and student do not fit together.
    """

    def __init__(
        self,
        settings: Distill,
        teacher: nn.Module,
        student: nn.Module,
        example: Inputs,
        *,
        seed: int = 0,
        roles: RoleLosses | None = None,
        itself: bool = False,
    ) -> None:
        """example: a small batch of the student's inputs. roles: what it is trained by whose outputs have roles.
        itself: whether the teacher is the student's own model, of which model.outputs names the outputs as well.
        """
        self.settings, self.roles = settings, roles
        self.teaching = RoleTeaching(taught(roles.judged), settings.temperature) if roles is not None else None
        self.teacher = teacher.eval()
        self.regressors = nn.ModuleList()
        self._seen: dict[tuple[str, str], Tensor] = {}
        pairs = {"hints": settings.hints, "attention": settings.attention}
        for what, several in pairs.items():
            for pair in several:
                _check_layer(student, pair.student, f"distill.{what}: the student")
                _check_layer(teacher, pair.teacher, f"distill.{what}: the teacher")
        self._hooked = {
            "student": sorted({pair.student for several in pairs.values() for pair in several}),
            "teacher": sorted({pair.teacher for several in pairs.values() for pair in several}),
        }
        was_training = student.training
        student.eval()
        with torch.no_grad(), self.attached(student):
            self._check_answers(student(*example), self._answer(example), itself=itself)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for pair in settings.hints:
                    self.regressors.append(_regressor(*self._pair(pair)))
            for pair in settings.attention:
                self._attention(pair)
        student.train(was_training)

    def _check_answers(self, student: object, teacher: object, *, itself: bool) -> None:
        """Raises ModelError where the teacher's answer to the example is not comparable with the student's."""
        if self.roles is not None and self.teaching is not None:
            learning = [output.name for output in self.teaching.learning]
            names = self.roles.names
            self.teacher_names = list(names) if itself else _teacher_names(teacher, learning, names)
            self.teaching.check(self.roles.named(student), self._named(teacher))
            return
        classes, known = _logits(student, "student").shape[1], _logits(teacher, "teacher").shape[1]
        if classes != known:
            raise ModelError(
                f"the teacher answers {known} classes, the student {classes}",
                "distillation compares class by class: both must be built for the same classes",
            )

    def roles_of_teacher(self) -> RoleLosses:
        """The losses by which the teacher is judged: of what it teaches, by the names of its outputs."""
        assert self.roles is not None and self.teaching is not None, "of outputs with roles"
        learning = {output.name for output in self.teaching.learning}
        judged = tuple(
            each if each.name in learning else dataclasses.replace(each, loss=OutputLoss(UNTRAINED))
            for each in self.roles.judged
        )
        return dataclasses.replace(self.roles, names=tuple(self.teacher_names), judged=judged)

    def _named(self, answer: object) -> dict[str, Tensor]:
        """The teacher's answer by the names of its outputs."""
        values = (leaf.value for leaf in leaves(answer))
        floats = (value.float() if value.is_floating_point() else value for value in values)
        return dict(zip(self.teacher_names, floats, strict=True))

    @contextmanager
    def attached(self, student: nn.Module) -> Iterator[None]:
        """Inside, the named layers' outputs are watched; no hook is left behind."""
        with ExitStack() as hooks:
            for side, module in (("student", student), ("teacher", self.teacher)):
                for name in self._hooked[side]:
                    handle = module.get_submodule(name).register_forward_hook(self._watch(side, name))
                    hooks.callback(handle.remove)
            yield
        self._seen.clear()

    def _watch(self, side: str, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            # A layer of a transformer answers a tuple whose first element is its output.
            while isinstance(output, tuple | list) and output:
                output = output[0]
            if not isinstance(output, Tensor):
                raise ModelError(f"distill: layer {name!r} of the {side} answers a {type(output).__name__}, no tensor")
            self._seen[side, name] = output

        return hook

    def __call__(
        self, inputs: Inputs, outputs: Outputs, targets: BatchTargets, label_loss: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss and its parts, unweighted, after the student's forward pass on `inputs` gave `outputs`."""
        s = self.settings
        divergence = self._divergence(inputs, outputs, targets)
        total = s.alpha * divergence
        if s.alpha < 1:  # at 1 labels are no part of it, not even as 0 × infinity
            total = total + (1 - s.alpha) * label_loss
        parts = {"label_loss": label_loss, "teacher_loss": divergence}
        if s.hints:
            parts["hint_loss"] = torch.stack([self._hint(n, pair) for n, pair in enumerate(s.hints)]).sum()
            total = total + s.hint_weight * parts["hint_loss"]
        if s.attention:
            parts["attention_loss"] = torch.stack([self._attention(pair) for pair in s.attention]).sum()
            total = total + s.attention_weight * parts["attention_loss"]
        return total, {name: part.detach() for name, part in parts.items()}

    def _divergence(self, inputs: Inputs, outputs: Outputs, targets: BatchTargets) -> Tensor:
        s = self.settings
        with torch.no_grad():
            given = self._answer(inputs)
        if self.teaching is not None and isinstance(targets, NamedTargets):
            named = self._named(given)
            if s.method == "kd":
                return self.teaching.divergence(outputs, named, targets)
            (only,) = self.teaching.learning
            labels = torch.stack([torch.as_tensor(each) for each in targets.columns[only.held_against]])
            scores, answer = (as_scores(only, each[only.name]) for each in (outputs, named))
        else:
            assert isinstance(targets, Tensor), "samples of a task have one target"
            labels, scores, answer = targets, outputs, _logits(given, "teacher").float()
            if s.method == "kd":
                return kd_divergence(scores, answer, s.temperature)
        return dkd_divergence(scores, answer, labels, s.temperature, s.dkd_alpha, s.dkd_beta)

    def _answer(self, inputs: Inputs) -> object:
        self.teacher.eval()
        return self.teacher(*inputs)

    def _pair(self, pair: LayerPair) -> tuple[Tensor, Tensor]:
        """Both layers' outputs, in one size."""
        outputs = []
        for side, name in (("student", pair.student), ("teacher", pair.teacher)):
            if (side, name) not in self._seen:
                raise ModelError(f"distill: layer {name!r} of the {side} is not run by its forward()")
            outputs.append(self._seen[side, name])
        return _same_size(outputs[0], outputs[1].detach(), pair)

    def _hint(self, number: int, pair: LayerPair) -> Tensor:
        student, teacher = self._pair(pair)
        return functional.mse_loss(self.regressors[number](student).float(), teacher.float())

    def _attention(self, pair: LayerPair) -> Tensor:
        student, teacher = self._pair(pair)
        if student.ndim not in (3, 4):
            raise ModelError(
                f"distill.attention: layer {pair.student!r} answers {list(student.shape)}, which has no places to look "
                "at",
                "name convolutional or transformer layers; for others use hints",
            )
        return (attention_map(student) - attention_map(teacher)).square().mean()


def _teacher_names(answer: object, learning: Sequence[str], student: Sequence[str]) -> list[str]:
    """Names of a teacher's outputs: its own, or the student's where it gives as many and calls none as the recipe does.

    learning: the recipe's outputs that learn. student: all the student's.
    """
    names = names_of([leaf.path for leaf in leaves(answer)])
    foreign = not set(names) & set(learning)
    return list(student) if foreign and len(student) == len(names) else names


def _check_layer(module: nn.Module, name: str, who: str) -> None:
    known = [known for known, _ in module.named_modules() if known]
    if name not in known:
        raise ModelError(f"{who} has no layer {name!r}{suggest(name, known)}")


def _logits(output: object, who: str) -> Tensor:
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 2:
        form = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"distillation needs a {who} that returns logits (batch, classes), found {form}")
    return output


def _same_size(student: Tensor, teacher: Tensor, pair: LayerPair) -> tuple[Tensor, Tensor]:
    shapes = f"{pair.student!r} {list(student.shape)} and {pair.teacher!r} {list(teacher.shape)}"
    if student.ndim != teacher.ndim or student.ndim not in (2, 3, 4):
        raise ModelError(
            f"distill: layers {shapes} cannot be compared",
            "name two layers of images (N, C, H, W), of tokens (N, T, C), or of vectors (N, C)",
        )
    if student.ndim == 3 and student.shape[1] != teacher.shape[1]:
        raise ModelError(f"distill: layers {shapes} have unequal numbers of tokens")
    if student.ndim == 4 and student.shape[2:] != teacher.shape[2:]:
        height, width = (min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:], strict=True))
        student, teacher = (functional.adaptive_avg_pool2d(x, (height, width)) for x in (student, teacher))
    return student, teacher


def _regressor(student: Tensor, teacher: Tensor) -> nn.Module:
    if student.ndim == 4:
        return nn.Conv2d(student.shape[1], teacher.shape[1], 1)
    return nn.Linear(student.shape[-1], teacher.shape[-1])
