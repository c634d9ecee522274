"""What `pocketforge check` finds out about a model and its data."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.outcomes import files
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.reference import Reference


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe whose data were read and whose model ran.

    Attributes:
        sampled: Which samples the data gives a build.
        reference: What the model is, and how good.
        data: What the data's folders and files were taken as, in words.
        targets: Names of the recipe's targets.
        losses: What each output is trained by, in words, where the recipe trains outputs with roles.
    """

    sampled: Sampled
    reference: Reference
    data: tuple[str, ...]
    targets: tuple[str, ...]
    losses: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As `--json` prints it."""
        model = self.reference
        return {
            "samples": files.to_json(self.sampled.counts),
            "evaluated": model.eval_samples,
            "labels": len(self.sampled.labels),
            "data": self.data,
            "inputs": files.to_json(model.inputs),
            "outputs": files.to_json(model.outputs),
            "parameters": model.parameters,
            "macs": model.macs,
            **({"weights": files.to_json(model.weights)} if model.weights else {}),
            "accuracy": {name: round(value, 6) for name, value in model.accuracy.items()},
            "targets": self.targets,
            **({"losses": self.losses} if self.losses else {}),
        }
