"""Which tally counts an output's metrics, by its role."""

from __future__ import annotations

from pocketforge.accuracy.base import Tally
from pocketforge.accuracy.classes import RANKED, BinaryTally, LogitsTally, MultilabelTally, TokensTally
from pocketforge.accuracy.detection import BoxesTally
from pocketforge.accuracy.places import KeypointsTally, MaskTally
from pocketforge.accuracy.post import as_logit
from pocketforge.accuracy.signals import ImageTally, TextTally, WaveformTally
from pocketforge.accuracy.vectors import EmbeddingTally, RegressionTally
from pocketforge.recipe.output import Output


def tally_of(output: Output) -> Tally:
    """What counts an output's metrics."""
    target, threshold = output.held_against, output.post.threshold
    if output.processed == "sigmoid":
        threshold = as_logit(threshold)
    match output.role:
        case "logits":
            # Ranked by each class's share, as in other libraries, unless the recipe says that they are that.
            softmax = output.post.type in ("", "softmax")
            return LogitsTally(target, ranked=not RANKED.isdisjoint(output.metric_names), softmax=softmax)
        case "multilabel":
            return MultilabelTally(target, threshold)
        case "binary":
            return BinaryTally(target, threshold)
        case "regression":
            return RegressionTally(target)
        case "segmentation":
            return MaskTally(target)
        case "boxes":
            return BoxesTally(target)
        case "keypoints" | "heatmap":
            return KeypointsTally(target)
        case "embedding":
            return EmbeddingTally(target)
        case "tokens":
            return TokensTally(target)
        case "sequence":
            return TextTally(target)
        case "image":
            return ImageTally(target, output.post.white, with_ssim="ssim" in output.metric_names)
        case "waveform":
            return WaveformTally(target)
    raise AssertionError(f"role {output.role} has no metrics")
