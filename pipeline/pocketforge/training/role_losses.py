"""What a model is trained for whose outputs have roles: the weighted sum of each output's loss by its own targets."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pocketforge.accuracy.base import Unfit
from pocketforge.accuracy.post import About
from pocketforge.data.targets_on_disk import is_ragged
from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.model.structure import leaves
from pocketforge.recipe.output import Output, labelled
from pocketforge.recipe.output_loss import UNTRAINED
from pocketforge.recipe.user_words import user_code
from pocketforge.training.batches import BatchTargets, NamedTargets
from pocketforge.training.losses import Loss, checked_loss, user_loss
from pocketforge.training.objective import LossParts
from pocketforge.training.role_terms import Term

_DOCS = 'what each role\'s outputs and targets are: pocketforge docs outputs; loss = "none" leaves an output out'


@dataclass(frozen=True, slots=True)
class RoleLosses:
    """An `Objective` of outputs with roles.

    Attributes:
        names: Of all the model's outputs, in its order.
        judged: The recipe's, each with its name.
        about: Letters and the size of the image input; labels are of the first output that has classes.
        own: Output → the user's loss of it, which gets all outputs and targets by name.
        whole: The user's loss of all outputs together, in place of each one's; None for those.
        smoothing: Of the labels of cross entropy, 0 to 1.
    """

    names: tuple[str, ...]
    judged: tuple[Output, ...]
    about: About
    own: Mapping[str, Loss] = field(default_factory=dict)
    whole: Loss | None = None
    smoothing: float = 0.0

    @property
    def trained(self) -> tuple[Output, ...]:
        """Those that have a loss."""
        return tuple(output for output in self.judged if output.trained_by != UNTRAINED)

    def outputs(self, answer: object, targets: BatchTargets) -> dict[str, Tensor]:
        return self.named(answer)

    def named(self, answer: object) -> dict[str, Tensor]:
        """A model's answer by name, real numbers in float32. Raises ModelError for another number of outputs."""
        values = [leaf.value for leaf in leaves(answer)]
        if len(values) != len(self.names):
            raise ModelError(
                f"the model gives {len(values)} outputs, wanted {len(self.names)}: {', '.join(self.names)}"
            )
        floats = [value.float() if value.is_floating_point() else value for value in values]
        return dict(zip(self.names, floats, strict=True))

    def loss(self, outputs: Mapping[str, Tensor], targets: BatchTargets, *, smooth: bool) -> LossParts:
        """Raises ModelError where an output and its targets do not fit, and as the user's losses do."""
        assert isinstance(targets, NamedTargets), "samples of outputs with roles have targets by name"
        if self.whole is not None:
            return LossParts(self.whole(dict(outputs), self._for_users(targets)))
        if not self.trained:
            raise ModelError("no output of the model has a loss", '[[output]] loss = "file.py:function"')
        parts = {each.name: self._part(each, outputs, targets, smooth=smooth) for each in self.trained}
        weighted = [each.loss.weight * parts[each.name] for each in self.trained]
        return LossParts(checked_loss(torch.stack(weighted).sum()), parts)

    def __call__(self, answer: object, targets: BatchTargets) -> Tensor:
        """The loss of a model's answer, as pruning and reports take it: labels are not smoothed."""
        return self.loss(self.named(answer), targets, smooth=False).total

    def right(self, outputs: Mapping[str, Tensor], targets: BatchTargets) -> float | None:
        """No question: what is right is each output's own."""
        return None

    def _part(self, output: Output, outputs: Mapping[str, Tensor], targets: NamedTargets, *, smooth: bool) -> Tensor:
        own = self.own.get(output.name)
        if own is not None:
            return own(dict(outputs), self._for_users(targets))
        about = self.about if output.name == self._labelled else dataclasses.replace(self.about, labels=())
        term = Term(output, about, self.smoothing if smooth else 0.0)
        whose = f"loss of output {output.name!r} (role {output.role}, {output.trained_by})"
        values = outputs[output.name]
        if not values.is_floating_point():
            raise ModelError(f"{whose}: it answers {values.dtype}, which has no gradient", _DOCS)
        try:
            return term(values, targets)
        except Unfit as error:
            raise ModelError(f"{whose}: {error}", _DOCS) from None

    @property
    def _labelled(self) -> str:
        first = labelled(self.judged)
        return first.name if first is not None else ""

    def _for_users(self, targets: NamedTargets) -> dict[str, object]:
        """Targets by name as users' losses get them: a tensor with samples first, or a list of one entry a sample."""
        kinds = {each.held_against: each.kind_of_target for each in self.judged if each.held_against}
        # What may have different numbers of entries is always a list, whatever a batch happens to hold.
        return {name: _together(column, is_ragged(name, kinds)) for name, column in targets.columns.items()}


def _together(column: Sequence[Tensor] | Sequence[str], ragged: bool) -> object:
    tensors = [each for each in column if isinstance(each, Tensor)]
    if ragged or not tensors or len({each.shape for each in tensors}) > 1:
        return list(column)
    return torch.stack(tensors)


@contextmanager
def role_losses(
    judged: Sequence[Output],
    names: Sequence[str],
    about: About,
    resolve: Resolve,
    whole: str = "",
    smoothing: float = 0.0,
) -> Iterator[RoleLosses]:
    """The losses, with the user's own among them while the files they come from may import their neighbours.

    judged: the recipe's, each with its name. names: of all outputs. whole: `file.py:function` in place of all. Raises
    ModelError as `user_loss`.
    """
    with contextlib.ExitStack() as around:
        users = {output.name: output.trained_by for output in judged if user_code(output.trained_by) and not whole}
        own = {
            name: around.enter_context(user_loss(spec, resolve, f"loss of output {name!r}"))
            for name, spec in users.items()
        }
        loss = around.enter_context(user_loss(whole, resolve)) if whole else None
        yield RoleLosses(tuple(names), tuple(judged), about, own, loss, smoothing)
