"""The metrics of every role, against values worked out by hand; ties are ties of counts."""

from __future__ import annotations

import dataclasses
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.accuracy.exact import as_float, loss, mean, ratio
from pocketforge.accuracy.judging import make_judge
from pocketforge.accuracy.post import About, as_logit
from pocketforge.accuracy.ranked import auroc, average_precision, equal_error_rate
from pocketforge.accuracy.score import Judge, drops, in_words, score
from pocketforge.data.targets_on_disk import HeldTargets
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.outcomes.accuracy import OutputScore
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.recipe.output import Output, Post

HERE, NOTHING, PLAIN = Path(), About(), Post()


def judge(output: Output, targets: dict[str, Any], count: int, about: About = NOTHING, folder: Path = HERE) -> Judge:
    held = HeldTargets(targets, count)
    return Judge((output,), held, about, output.name, lambda path: folder / path)


def scored(output: Output, values: Any, about: About = NOTHING, **targets: Any) -> OutputScore:
    """What one output comes to."""
    values = np.asarray(values)
    by = judge(output, targets, len(values), about)
    (found,) = score(by, {output.name: values}, "the model", check=True)
    return in_words(found, by)


def refused(output: Output, values: Any, about: About = NOTHING, **targets: Any) -> str:
    with pytest.raises(ModelError) as error:
        scored(output, values, about, **targets)
    return error.value.message


def test_ratios_are_exact_and_a_drop_is_of_counts() -> None:
    assert as_float(ratio(900, 1000)) == 0.9
    assert loss(ratio(88, 100), ratio(86, 100), "higher") == 0.02  # in floats it is 0.020000000000000018
    assert loss(ratio(86, 100), ratio(88, 100), "lower") == 0.02
    assert mean([Fraction(1, 3), Fraction(2, 3), Fraction(1, 2)]) == Fraction(1, 2)
    assert loss(0.3, 0.1 + 0.2, "higher") == 0.0  # real values are told apart by 9 digits
    assert math.isnan(float(ratio(0, 0))) and math.isnan(float(mean([])))


def test_logits() -> None:
    scores = [[3, 1, 0], [0, 2, 1], [1, 0, 5], [9, 1, 0]]
    metrics = ("accuracy_top1", "macro_f1", "micro_f1", "f1_worst_class", "auroc", "average_precision")
    found = scored(Output("logits", "o", metrics=metrics), scores, label=np.asarray([0, 1, 2, 2]))
    assert found.metrics["accuracy_top1"] == 0.75
    assert found.metrics["micro_f1"] == 0.75
    assert found.classes["macro_f1"] == {"0": float(Fraction(2, 3)), "1": 1.0, "2": float(Fraction(2, 3))}
    assert found.metrics["macro_f1"] == float(Fraction(7, 9))
    assert found.metrics["f1_worst_class"] == float(Fraction(2, 3))
    assert found.metrics["auroc"] == float(mean([Fraction(2, 3), Fraction(1), Fraction(1, 2)]))  # of softmax's shares
    as_they_are = scored(
        Output("logits", "o", metrics=metrics, post=Post("none")), scores, label=np.asarray([0, 1, 2, 2])
    )
    assert as_they_are.metrics["auroc"] == float(mean([Fraction(2, 3), Fraction(1), Fraction(5, 8)]))
    # Shares and scores are not guessed where metrics rank them.
    shares = np.asarray([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    said = refused(Output("logits", "o", metrics=("auroc",)), shares, label=np.asarray([0, 1]))
    assert "auroc rank shares of classes, and its values are all from 0 to 1" in said and 'post = "none"' in said
    assert scored(Output("logits", "o"), shares, label=np.asarray([0, 1])).metrics["accuracy_top1"] == 1
    assert found.counted == 4
    named = scored(Output("logits", "o"), scores, About(("a", "b", "c")), label=np.asarray([0, 1, 2, 2]))
    assert set(named.classes["macro_f1"]) == {"a", "b", "c"}


def test_multilabel_and_binary_are_scores_unless_the_recipe_says_probabilities() -> None:
    labels = np.asarray([[1, 0], [1, 1], [0, 0]], np.uint8)
    values = np.asarray([[2.0, -1.0], [0.5, -0.1], [-3.0, -2.0]])
    metrics = ("exact_match", "macro_f1", "micro_f1", "average_precision", "auroc")
    found = scored(Output("multilabel", "o", metrics=metrics), values, labels=labels)
    assert found.metrics["exact_match"] == float(Fraction(2, 3))
    assert found.metrics["micro_f1"] == 0.8
    assert found.metrics["macro_f1"] == 0.5
    assert found.metrics["auroc"] == 1.0
    shares = 1 / (1 + np.exp(-values))
    assert scored(Output("multilabel", "o", post=Post("none"), metrics=metrics), shares, labels=labels) == found
    assert 'its values are all from 0 to 1: post = "none"' in refused(Output("multilabel", "o"), shares, labels=labels)
    wrong = Output("binary", "o", post=Post("none"))
    assert "is for probabilities, found -3 to 2" in refused(wrong, values[:, :1], label=np.asarray([1, 1, 0]))
    one = scored(
        Output("binary", "o", metrics=("binary_accuracy", "binary_f1", "eer")), values[:, 1], label=labels[:, 1]
    )
    assert one.metrics == {"binary_accuracy": float(Fraction(2, 3)), "binary_f1": 0.0, "eer": 0.0}
    assert as_logit(0.5) == 0.0 and as_logit(0.0) == -math.inf


def test_one_kind_of_sample_alone_ranks_nothing_and_is_said_to() -> None:
    said = refused(Output("binary", "odd"), [[2.0], [-1.0]], label=np.asarray([0, 0]))
    assert said.startswith("output 'odd' of the model (role binary): ") and "no eval sample holds" in said
    said = refused(Output("multilabel", "o"), [[2.0], [-1.0]], labels=np.zeros((2, 1), np.uint8))
    assert "is nan: no sample has any label" in said


def test_equal_scores_are_one_step_of_a_curve() -> None:
    scores, holds = np.asarray([1.0, 1.0, 0.0, 2.0]), np.asarray([True, False, False, True])
    assert auroc(scores, holds) == Fraction(7, 8)
    assert average_precision(scores, holds) == pytest.approx(5 / 6)
    assert equal_error_rate(scores, holds) == Fraction(1, 4)
    assert equal_error_rate(-scores, holds) == Fraction(3, 4)
    shuffled = [2, 1, 3, 0]
    assert auroc(scores[shuffled], holds[shuffled]) == Fraction(7, 8)


def test_tokens_that_are_ignored_count_for_nothing() -> None:
    tags = np.asarray([[0, 1, -100], [1, 1, -100]])
    scores = np.eye(2)[[[0, 1, 1], [0, 1, 0]]]
    found = scored(Output("tokens", "o"), scores, tags=list(tags))
    assert found.metrics["token_accuracy"] == 0.75 and found.counted == 4
    assert "a sample has 4" in refused(Output("tokens", "o"), scores, tags=[np.zeros(4, int)] * 2)
    assert "every tag is ignored" in refused(Output("tokens", "o"), scores, tags=[np.full(3, -100)] * 2)


def test_masks() -> None:
    mask = np.asarray([[[0, 0], [1, 255]]])
    scores = np.zeros((1, 2, 2, 2))
    scores[0, 1] = [[1, -1], [1, 1]]  # answers 1 0 / 1 1
    metrics = ("miou", "dice", "pixel_accuracy", "iou_worst_class")
    found = scored(Output("segmentation", "o", metrics=metrics), scores, mask=mask)
    assert found.metrics == {
        "miou": 0.5, "dice": float(Fraction(2, 3)), "pixel_accuracy": float(Fraction(2, 3)), "iou_worst_class": 0.5,
    }  # fmt: skip
    assert found.classes["miou"] == {"0": 0.5, "1": 0.5} and found.counted == 3
    one = scored(Output("segmentation", "o", post=Post("sigmoid"), metrics=metrics), scores[:, 1:] * 3, mask=mask)
    assert one.metrics == found.metrics
    numbers = scored(Output("segmentation", "o", metrics=metrics), scores.argmax(1).astype(np.uint8), mask=mask)
    assert numbers.metrics == found.metrics
    wide = np.repeat(np.repeat(mask, 2, 1), 2, 2)
    said = refused(Output("segmentation", "o"), scores, mask=wide)
    assert "it answers 2 by 2, the masks are 4 by 4" in said and "upsample = true" in said
    assert scored(Output("segmentation", "o", post=Post("argmax", upsample=True)), scores, mask=wide).counted == 12
    assert 'post = "sigmoid"' in refused(Output("segmentation", "o"), scores[:, 1:], mask=mask)
    assert "every pixel" in refused(Output("segmentation", "o"), scores, mask=np.full((1, 2, 2), 255))


def test_a_large_class_number_is_counted_or_refused_in_bounded_memory() -> None:
    """A table of classes by classes would be 32 GB."""
    mask = np.asarray([[[0, 65_000], [1, 1]]])
    found = scored(Output("segmentation", "o"), np.asarray([[[0, 65_000], [1, 0]]]), mask=mask)
    assert found.metrics["miou"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    answers = np.zeros((1, 2, 2), np.int64)
    said = refused(Output("segmentation", "o"), answers, mask=mask + 1_000_000_000)
    assert "the masks have class 1000065000, and there can be 65,536" in said
    assert "it answers class 70000, and" in refused(Output("segmentation", "o"), answers + 70_000, mask=mask)


def test_masks_of_more_classes_than_are_scored_are_said() -> None:
    said = refused(Output("segmentation", "o"), np.zeros((1, 2, 2, 2)), mask=np.full((1, 2, 2), 4))
    assert "it scores 2 classes, and the masks have a class 4" in said


def test_what_a_file_gives_that_is_no_such_output_is_told_not_raised() -> None:
    """A file that lost its sigmoid: its detector's scores are over 1, which is a fault of the file."""
    output = Output("boxes", "o", post=Post("nms", head="rows"))
    by = judge(output, {"boxes": BOXES, "classes": CLASSES, "crowd": CROWD}, 2)
    faults: dict[str, str] = {}
    assert score(by, {"o": np.full((2, 3, 6), 7.0)}, "the file", faults=faults) == ()
    wanted = "scores of a head are probabilities of its classes, from 0 to 1, found "
    assert faults["o"].startswith(f"{wanted}7 to 7: put the sigmoid")  # it has no scores whose post could be one
    # An int8 file rounds 1 to a step of its output, and may come over it.
    assert len(score(by, {"o": np.full((2, 3, 6), 1.12)}, "the file", faults={})) == 1
    # Small scores before a sigmoid: those under 0 were taken for padding, and the metrics were of the rest.
    for value in (-0.5, 1.12):
        faults = {}
        assert score(by, {"o": np.full((2, 3, 6), value)}, "the model", check=True, faults=faults) == ()
        assert faults["o"].startswith(f"{wanted}{value:g} to ")
    apart = Judge((Output("boxes", "b"), Output("scores", "s")), by.targets, NOTHING, "", Path)
    faults = {}
    assert score(apart, {"b": np.zeros((2, 3, 4))}, "the file", faults=faults) == ()  # as if scores were NaN
    assert faults == {"b": "its scores cannot be judged"}


def test_a_class_that_only_answers_have_counts_in_miou() -> None:
    answers = np.asarray([[[0, 2], [0, 0]]], np.uint8)
    found = scored(Output("segmentation", "o"), answers, mask=np.zeros((1, 2, 2), int))
    assert found.classes["miou"] == {"0": 0.75, "2": 0.0} and found.metrics["miou"] == 0.375


BOXES = [np.asarray([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32), np.zeros((0, 4), np.float32)]
CLASSES = [np.asarray([0, 1]), np.zeros(0, int)]
CROWD = [np.zeros(2, np.uint8), np.zeros(0, np.uint8)]


def detector(answers: dict[str, Any], post: Post = PLAIN, scores: str = "", about: About = NOTHING) -> OutputScore:
    outputs = [Output("boxes", "boxes", post=post), Output("scores", "scores", post=Post(scores))]
    outputs += [Output("classes", "classes")] if "classes" in answers else []
    held = HeldTargets({"boxes": BOXES, "classes": CLASSES, "crowd": CROWD}, 2)
    by = Judge(tuple(outputs), held, about, "", Path)
    (found,) = score(by, {name: np.asarray(each) for name, each in answers.items()}, "the file")
    return in_words(found, by)


def test_a_detector_of_decoded_boxes() -> None:
    exact = {
        "boxes": [[[0, 0, 10, 10], [20, 20, 30, 30]], [[0, 0, 1, 1], [0, 0, 1, 1]]],
        "scores": [[0.9, 0.8], [0.0, 0.0]],  # 0 is padding
        "classes": [[0, 1], [0, 0]],
    }
    assert detector(exact).metrics == {"map": 1.0, "map_50": 1.0, "map_75": 1.0}
    half = {**exact, "classes": [[0, 0], [0, 0]]}
    assert detector(half).metrics["map"] == 0.5 and detector(half).classes["map"] == {"0": 1.0, "1": 0.0}
    shares = {**exact, "boxes": np.asarray(exact["boxes"]) / 40}
    there = About(size=(40, 40))
    assert detector(shares, Post("none", normalized=True), about=there).metrics["map"] == 1.0
    corner_and_size = {**exact, "boxes": [[[0, 0, 10, 10], [20, 20, 10, 10]], [[0, 0, 1, 1]] * 2]}
    assert detector(corner_and_size, Post("none", format="xywh")).metrics["map"] == 1.0
    centred = {**exact, "boxes": [[[5, 5, 10, 10], [25, 25, 10, 10]], [[0, 0, 1, 1]] * 2]}
    assert detector(centred, Post("none", format="cxcywh")).metrics["map"] == 1.0
    nothing = {**exact, "scores": np.zeros((2, 2))}
    assert detector(nothing).metrics["map"] == 0.0


def test_non_maximum_suppression() -> None:
    raw = {
        "boxes": [[[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], [[0, 0, 1, 1]] * 3],
        "scores": [[[3, -9], [2.5, -9], [-9, 1]], [[-9, -9]] * 3],
    }
    assert detector(raw, Post("nms"), "sigmoid").metrics["map"] == 1.0
    # The surer of two overlapping boxes is kept, right or not.
    swapped = {**raw, "scores": [[[2.5, -9], [3, -9], [-9, 1]], [[-9, -9]] * 3]}
    assert detector(swapped, Post("nms"), "sigmoid").metrics["map_75"] == 1.0  # IoU .82 of the kept box is right at .75
    assert detector(swapped, Post("nms"), "sigmoid").metrics["map"] < 1.0
    with pytest.raises(ModelError, match='scores of nms are from 0 to 1, found 3: post = "sigmoid" of the scores'):
        detector(raw, Post("nms"))
    head = np.concatenate([np.asarray(raw["boxes"], float), 1 / (1 + np.exp(-np.asarray(raw["scores"], float)))], 2)
    for how, values in (("rows", head), ("columns", head.transpose(0, 2, 1))):
        output = Output("boxes", "o", post=Post("nms", head=how))  # type: ignore[arg-type]
        targets = {"boxes": BOXES, "classes": CLASSES, "crowd": CROWD}
        assert scored(output, values, NOTHING, **targets).metrics["map"] == 1.0


def test_no_box_at_all_is_said() -> None:
    none = {"boxes": [BOXES[1]], "classes": [CLASSES[1]], "crowd": [CROWD[1]]}
    output = Output("boxes", "o", post=Post("nms", head="rows"))
    assert "map is nan: no eval sample has a box" in refused(output, np.zeros((1, 3, 5)), NOTHING, **none)


def test_places_are_of_the_image_and_not_of_a_state_before_it() -> None:
    """A state of two layers, [2, 1, 48], was taken for an image of 1 by 48."""
    tensors = (SampleTensor((2, 1, 48), "float32"), SampleTensor((3, 24, 32), "float32"))
    counts, fed = Counts(4, 0, 0, 4, 0, 0), Preprocessing(None, None, ())
    sampled = Sampled("f", "outputs", (), counts, {}, tensors, None, fed, None, (), states=(0,))
    heads = (Output("heatmap", "map"), Output("state", "h"))
    assert make_judge(heads, ["map", "h"], "outputs", HERE, sampled, Path).about.size == (24, 32)
    alone = dataclasses.replace(sampled, inputs=tensors[:1])
    assert make_judge(heads, ["map", "h"], "outputs", HERE, alone, Path).about.size is None


def test_keypoints_and_the_peaks_of_heatmaps() -> None:
    truth = np.asarray([[[[0, 0, 2], [10, 0, 2], [0, 10, 1], [50, 50, 0]]]], np.float32)
    areas = np.zeros((1, 1), np.float32)
    near = [[[1.5, 0], [10, 0], [0, 13], [0, 0]]]  # within .2 of 10: yes, yes, no; the last is not visible
    found = scored(Output("keypoints", "o"), near, keypoints=truth, areas=areas)
    assert found.metrics["pck"] == float(Fraction(2, 3)) and found.counted == 3
    oks = np.mean(np.exp(-np.asarray([1.5**2, 0, 9]) / (2 * 100 * 0.1**2)))
    assert found.metrics["oks"] == pytest.approx(oks, abs=1e-9)
    maps = np.zeros((1, 4, 16, 16))
    for number, (x, y) in enumerate([(0, 0), (10, 0), (0, 10), (3, 3)]):
        maps[0, number, y, x] = 1
    peaks = scored(Output("heatmap", "o"), maps, About(size=(16, 16)), keypoints=truth, areas=areas)
    assert peaks.metrics["pck"] == 1.0
    assert "no image input" in refused(Output("heatmap", "o"), maps, keypoints=truth, areas=areas)
    assert "found [1, 3, 2]" not in refused(Output("keypoints", "o"), np.zeros((1, 3, 2)), keypoints=truth, areas=areas)
    unseen = truth * [1, 1, 0]
    assert "no eval sample has a visible keypoint" in refused(
        Output("keypoints", "o"), near, keypoints=unseen, areas=areas
    )


def test_embeddings_find_their_own() -> None:
    vectors = np.asarray([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [0.7, 0.7]])
    labels = np.asarray([0, 0, 1, 1, 2])  # the last is alone with its label
    found = scored(Output("embedding", "o"), vectors, label=labels)
    assert found.metrics["recall_at_1"] == 1.0 and found.counted == 4 and found.metrics["eer"] == 0.0
    crossed = scored(Output("embedding", "o"), vectors[[0, 2, 1, 3, 4]], label=labels)
    assert crossed.metrics["recall_at_1"] == 0.0
    assert "no label has two" in refused(Output("embedding", "o"), vectors, label=np.arange(5))
    towards = scored(Output("embedding", "o", target="value", metrics=("cosine",)), vectors, value=vectors * 3)
    assert towards.metrics["cosine"] == 1.0
    assert "against labels" in refused(Output("embedding", "o", target="value"), vectors, value=vectors)


def test_regressions_have_the_figures_that_they_had() -> None:
    values, truth = np.asarray([[1.0], [2.0], [4.0]]), np.asarray([1.0, 3.0, 4.0], np.float32)
    metrics = ("mean_absolute_error", "root_mean_square_error", "r2", "correlation", "spearman", "cosine")
    found = scored(Output("regression", "o", metrics=metrics), values, value=truth)
    assert found.metrics["mean_absolute_error"] == pytest.approx(1 / 3, abs=1e-9)
    assert found.metrics["spearman"] == 1.0
    flat = Output("regression", "o", metrics=("spearman",))
    assert "no target changes" in refused(flat, values, value=np.ones(3))


def test_ctc_text() -> None:
    letters = " abc"  # numbers 1 to 4; 0 is the blank
    path = np.eye(5)[[[2, 2, 0, 2, 1, 3], [4, 4, 0, 0, 0, 0]]]  # "aa b", "c"
    output = Output("sequence", "o", post=Post("ctc_greedy", alphabet=letters))
    found = scored(output, path, text=["aa b", "c"])
    assert found.metrics == {"wer": 0.0, "cer": 0.0} and found.counted == 5
    assert scored(output, path, text=["aa c", "c"]).metrics == {"wer": float(Fraction(1, 3)), "cer": 0.2}
    assert "it scores 5 letters, wanted 0 and a blank" in refused(Output("sequence", "o"), path, text=["", ""])
    assert "the targets have no word" in refused(output, path, text=["", ""])


def test_images_and_sound() -> None:
    images = np.random.default_rng(0).random((2, 16, 16, 3))
    stored = (images * 255).round().astype(np.uint8)
    planes = (stored / 255.0).transpose(0, 3, 1, 2)
    same = scored(Output("image", "o"), planes, image=stored)
    assert same.metrics == {"psnr_db": 100.0, "ssim": 1.0}
    off = scored(Output("image", "o", metrics=("psnr_db",)), planes + 0.1, image=stored)
    assert off.metrics["psnr_db"] == pytest.approx(20.0, abs=1e-6)
    assert "it reaches 255" in refused(Output("image", "o"), planes * 255, image=stored)
    white = Output("image", "o", post=Post("none", white=255.0))
    assert scored(white, planes * 255, image=stored).metrics["psnr_db"] == 100.0
    assert "(height, width, channels)" in refused(Output("image", "o"), planes[:, :, :8], image=stored)
    sound = np.sin(np.arange(1000) / 7.0)[None]
    noisy = sound + 0.1 * np.cos(np.arange(1000) / 3.0)
    heard = scored(Output("waveform", "o"), noisy * 2, waveform=list(sound.astype(np.float32)))
    assert heard.metrics["si_sdr_db"] == pytest.approx(20, abs=0.2) and heard.metrics["snr_db"] < 1
    assert "silent" in refused(Output("waveform", "o"), noisy, waveform=[np.zeros(1000, np.float32)])
    assert "1,000 values" in refused(Output("waveform", "o"), noisy, waveform=[np.zeros(10, np.float32)])


METRICS = """
import numpy as np
def right(outputs, targets):
    return (outputs["o"].argmax(1) == targets["label"]).mean()
class Streamed:
    def __init__(self):
        self.batches = 0
    def update(self, outputs, targets):
        self.batches += 1
        assert len(outputs["o"]) == len(targets["label"]) <= 64
    def compute(self):
        return self.batches
def raises(outputs, targets):
    return 1 / (targets["label"] * 0).sum()
def nothing(outputs, targets):
    return float("nan")
def words(outputs, targets):
    return "good"
class Half:
    def update(self, outputs, targets): ...
def asks(outputs, targets):
    return targets["pitch"].mean()
def crossed(outputs):
    return outputs["o"][:, ::-1]
"""


def test_metrics_and_post_processing_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METRICS)
    labels, values = np.arange(150) % 2, np.eye(2)[np.arange(150) % 2]

    def run(*metrics: str, post: str = "") -> dict[str, float]:
        output = Output("logits", "o", metrics=metrics, post=Post(post))
        by = judge(output, {"label": labels}, 150, folder=tmp_path)
        (found,) = score(by, {"o": values}, "the file")
        assert drops(found, found) == dict.fromkeys(found.figures.values, 0.0)
        return dict(in_words(found, by).metrics)

    assert run("accuracy_top1", "own.py:right:higher", "own.py:Streamed:lower") == {
        "accuracy_top1": 1.0, "right": 1.0, "Streamed": 3.0,
    }  # fmt: skip
    assert run("accuracy_top1", post="own.py:crossed") == {"accuracy_top1": 0.0}
    where = r"for output 'o' of the file \(role logits\)"
    with (
        np.errstate(all="raise"),
        pytest.raises(ModelError, match=rf"metric raises of .*own.py: it raised {where}: Fl"),
    ):
        run("own.py:raises:higher")
    with pytest.raises(ModelError, match=rf"metric asks of .* raised {where}: KeyError: 'pitch'") as asked:
        run("own.py:asks:higher")
    assert asked.value.hint == "outputs has o; targets has label, those that an [[output]] is held against"
    with pytest.raises(ModelError, match=rf"metric nothing of .*own.py returned nan {where}"):
        run("own.py:nothing:higher")
    with pytest.raises(ModelError, match=rf"metric words of .*own.py returned a str {where}, wanted a number"):
        run("own.py:words:lower")
    with pytest.raises(ModelError, match=r"has class Half without update\(\) or compute\(\)"):
        run("own.py:Half:lower")
    with pytest.raises(ModelError, match=r"metric: .*own.py has no function or class 'gone'"):
        run("own.py:gone:lower")


def test_a_library_that_is_not_there_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("torchmetrics", "faster_coco_eval"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    path = np.eye(2)[[[1, 0]]]
    with pytest.raises(ToolMissing, match="a metric of the recipe needs torchmetrics") as error:
        scored(Output("sequence", "o", post=Post("ctc_greedy", alphabet="a")), path, text=["a"])
    assert error.value.hint == "pip install faster-coco-eval==1.8.0 torchmetrics==1.9.0"
    output = Output("boxes", "o", post=Post("nms", head="rows"))
    with pytest.raises(ToolMissing, match="a metric of the recipe needs faster-coco-eval"):
        scored(output, [[[0, 0, 9, 9, 0.5]]] * 2, NOTHING, boxes=BOXES, classes=CLASSES, crowd=CROWD)
    # What is counted needs neither.
    assert scored(Output("logits", "o"), [[1, 0]], label=np.asarray([0])).metrics["accuracy_top1"] == 1.0
