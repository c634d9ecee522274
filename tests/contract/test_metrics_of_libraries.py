"""Our counts against kept libraries' metrics, on many random answers; and detection on scenes of real digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketforge.accuracy.library import torchmetrics
from pocketforge.accuracy.post import About
from pocketforge.accuracy.score import Judge, in_words, score
from pocketforge.data.targets_on_disk import HeldTargets
from pocketforge.outcomes.accuracy import OutputScore
from pocketforge.recipe.metrics_of_outputs import metrics_of_role
from pocketforge.recipe.output import Output, Post
from pocketforge.recipe.roles import RoleName


@pytest.fixture(scope="module")
def sk() -> Any:
    """scikit-learn's metrics: a second of imports, not at every worker's collection."""
    return pytest.importorskip("sklearn.metrics")


def scored(output: Output, values: Any, **targets: Any) -> OutputScore:
    by = Judge((output,), HeldTargets(targets, len(values)), About(size=(48, 48)), "", Path)
    return in_words(score(by, {output.name: np.asarray(values)}, "the model")[0], by)


def every(role: RoleName, *but: str, post: str = "") -> Output:
    return Output(role, "o", metrics=tuple(m for m in metrics_of_role(role) if m not in but), post=Post(post))


SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_classes(seed: int, sk: Any) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(150, 6)).round(1)  # with ties
    labels = random.integers(0, 5, 150)  # the last class never is
    found = scored(every("logits"), scores, label=labels).metrics
    answers = scores.argmax(1)
    there = np.unique(labels)
    of_each = sk.f1_score(labels, answers, average=None, labels=there)
    assert found["accuracy_top1"] == pytest.approx(sk.accuracy_score(labels, answers), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(of_each.mean(), abs=1e-12)
    assert found["f1_worst_class"] == pytest.approx(of_each.min(), abs=1e-12)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(labels, answers, average="micro"), abs=1e-12)
    # Samples are ranked by the share of a class, not by its score.
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    for way, of in (("", shares), ("softmax", shares), ("none", scores)):
        ranked = scored(every("logits", post=way), scores, label=labels).metrics
        for name, theirs in (("auroc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)):
            each = [theirs(labels == k, of[:, k].round(12)) for k in there]
            assert ranked[name] == pytest.approx(np.mean(each), abs=1e-12), (way, name)
    five = random.normal(size=(150, 5))  # without ties, which softmax's roundings break there
    whole = torchmetrics("classification").multiclass_auroc(
        torch.from_numpy(five), torch.from_numpy(labels), num_classes=5
    )
    assert scored(every("logits"), five, label=labels).metrics["auroc"] == pytest.approx(float(whole), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_and_one_label(seed: int, sk: Any) -> None:
    random = np.random.default_rng(seed)
    scores, labels = random.normal(size=(90, 4)).round(1), random.integers(0, 2, (90, 4))
    found = scored(every("multilabel"), scores, labels=labels).metrics
    holds = scores >= 0
    assert found["exact_match"] == pytest.approx((holds == labels).all(1).mean(), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, holds, average="macro"), abs=1e-12)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(labels, holds, average="micro"), abs=1e-12)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(labels, scores, average="macro"), abs=1e-12)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12)
    one = scored(every("binary"), scores[:, 0], label=labels[:, 0]).metrics
    assert one["auroc"] == pytest.approx(sk.roc_auc_score(labels[:, 0], scores[:, 0]), abs=1e-12)
    assert one["binary_f1"] == pytest.approx(sk.f1_score(labels[:, 0], holds[:, 0]), abs=1e-12)
    false, true, _ = sk.roc_curve(labels[:, 0], scores[:, 0], drop_intermediate=False)
    nearest = np.argmin(np.abs(false - (1 - true)))
    assert one["eer"] == pytest.approx((false[nearest] + 1 - true[nearest]) / 2, abs=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_masks(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, mask = random.normal(size=(70, 4, 5, 6)), random.integers(0, 4, (70, 5, 6))
    mask[random.random(mask.shape) < 0.1] = 255
    found = scored(every("segmentation"), scores, mask=mask).metrics
    answers = torch.from_numpy(scores.argmax(1))
    library = torchmetrics("classification")
    theirs = library.multiclass_jaccard_index(answers, torch.from_numpy(mask), num_classes=4, ignore_index=255)
    assert found["miou"] == pytest.approx(float(theirs), abs=1e-6)
    dice = library.multiclass_f1_score(
        answers, torch.from_numpy(mask), num_classes=4, ignore_index=255, average="macro"
    )
    assert found["dice"] == pytest.approx(float(dice), abs=1e-6)
    held = mask != 255
    assert found["pixel_accuracy"] == pytest.approx((scores.argmax(1) == mask)[held].mean(), abs=1e-12)


def test_values_texts_images_and_sounds(sk: Any) -> None:
    from scipy import stats

    random = np.random.default_rng(0)
    values, truth = random.normal(size=(80, 2)), random.normal(size=(80, 2))
    found = scored(every("regression"), values, value=truth).metrics
    assert found["mean_absolute_error"] == pytest.approx(sk.mean_absolute_error(truth, values), abs=1e-9)
    assert found["r2"] == pytest.approx(sk.r2_score(truth, values), abs=1e-9)
    ranks = [float(stats.spearmanr(truth[:, k], values[:, k]).statistic) for k in range(2)]
    assert found["spearman"] == pytest.approx(np.mean(ranks), abs=1e-9)
    pictures = random.random((3, 16, 16, 1)).astype(np.float32)
    answers = np.clip(pictures + 0.1 * random.normal(size=pictures.shape), 0, 1)
    seen = scored(every("image"), answers, image=pictures).metrics
    one, other = (torch.from_numpy(a.transpose(0, 3, 1, 2).astype(np.float64)) for a in (answers, pictures))
    library = torchmetrics("image")
    ours = library.structural_similarity_index_measure(one, other, data_range=1.0)
    assert seen["ssim"] == pytest.approx(float(ours), abs=1e-9)
    psnr = library.peak_signal_noise_ratio(one, other, data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")
    assert seen["psnr_db"] == pytest.approx(float(psnr), abs=1e-5)


def test_nearest_neighbours_and_pairs(sk: Any) -> None:
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng(0)
    labels = random.integers(0, 8, 300)
    vectors = random.normal(size=(300, 5)) + 1.5 * np.eye(8, 5)[labels]
    found = scored(every("embedding", "cosine"), vectors, label=labels).metrics
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = NearestNeighbors(n_neighbors=11).fit(unit).kneighbors(return_distance=False)
    for k in (1, 5, 10):
        same = (labels[near[:, :k]] == labels[:, None]).any(1).mean()
        assert found[f"recall_at_{k}"] == pytest.approx(same, abs=1e-12)
    first, second = np.triu_indices(300, 1)
    false, true, _ = sk.roc_curve(labels[first] == labels[second], (unit @ unit.T)[first, second])
    nearest = np.argmin(np.abs(false - (1 - true)))
    assert found["eer"] == pytest.approx((false[nearest] + 1 - true[nearest]) / 2, abs=1e-3)


def scenes(count: int) -> tuple[list[Any], list[Any]]:
    from sklearn.datasets import load_digits

    """Canvases of 48 by 48 with two to four real digits on them, in quarters: their boxes and classes."""
    digits, random = load_digits(), np.random.default_rng(0)
    boxes, classes = [], []
    for _ in range(count):
        quarters = random.permutation(4)[: random.integers(2, 5)]
        corners, numbers = [], []
        for quarter in quarters:
            index = int(random.integers(0, len(digits.images)))
            rows, columns = np.nonzero(digits.images[index] > 4)
            y, x = 24 * (quarter // 2) + random.integers(0, 8), 24 * (quarter % 2) + random.integers(0, 8)
            corners.append(
                [x + 2 * columns.min(), y + 2 * rows.min(), x + 2 * columns.max() + 2, y + 2 * rows.max() + 2]
            )
            numbers.append(digits.target[index])
        boxes.append(np.asarray(corners, np.float32))
        classes.append(np.asarray(numbers))
    return boxes, classes


def raw_head(boxes: list[Any], classes: list[Any], spread: float) -> Any:
    """A head that finds each digit three times: near, nearer, as it is; with places for as many as there may be."""
    random = np.random.default_rng(1)
    head = np.zeros((len(boxes), 12, 14))
    for scene, (corners, numbers) in enumerate(zip(boxes, classes, strict=True)):
        for place, (corner, number) in enumerate(zip(corners, numbers, strict=True)):
            for again in range(3):
                row = head[scene, 3 * place + again]
                row[:4] = corner + random.normal(size=4) * spread * (2 - again)
                row[4 + number] = 0.5 + 0.2 * again
    return head


def detected(head: Any, boxes: list[Any], classes: list[Any], **post: Any) -> dict[str, float]:
    output = Output("boxes", "o", metrics=metrics_of_role("boxes"), post=Post("nms", head="rows", **post))
    crowd = [np.zeros(len(each), np.uint8) for each in boxes]
    return dict(scored(output, head, boxes=boxes, classes=classes, crowd=crowd).metrics)


def test_detection_on_scenes_of_digits() -> None:
    boxes, classes = scenes(70)  # more than a batch
    head = raw_head(boxes, classes, 0.5)
    good = detected(head, boxes, classes)
    assert good["map"] == 1.0 and good["mar_100"] == 1.0
    # Each thing that can be wrong with a decoding.
    sizes = head.copy()
    sizes[:, :, 2:4] -= sizes[:, :, :2]
    assert detected(sizes, boxes, classes)["map"] < 0.2
    assert detected(sizes, boxes, classes, format="xywh")["map"] > 0.99
    assert detected(head[:, :, [1, 0, 3, 2, *range(4, 14)]], boxes, classes)["map"] < 0.5  # x and y
    assert detected(np.roll(head, 1, axis=0), boxes, classes)["map"] < 0.1  # another scene's
    assert detected(np.concatenate([head[:, :, :4], head[:, :, :3:-1]], 2), boxes, classes)["map"] < 0.2  # classes
    dead = head.copy()
    dead[:, :, 4:] = 0.0
    assert detected(dead, boxes, classes) == dict.fromkeys(good, 0.0)
    shares = head.copy()
    shares[:, :, :4] /= 48
    assert detected(shares, boxes, classes, normalized=True)["map"] > 0.99
    many = detected(head, boxes, classes, iou=1.0)  # nothing is suppressed: two of three boxes are too many
    assert many["map"] <= good["map"]
    assert detected(head, boxes, classes, most=1)["mar_100"] < 0.6
    assert detected(head, boxes, classes, score=0.95)["map"] == 0.0


def test_map_is_pycocos_own_procedure() -> None:
    """COCOeval of faster-coco-eval through our entries: hand-made precision of a half."""
    boxes, classes = [np.asarray([[0, 0, 10, 10]], np.float32)] * 4, [np.asarray([3])] * 4
    head = np.zeros((4, 1, 14))
    head[:, 0, :4] = [0, 0, 10, 10]
    head[:, 0, 7] = [0.9, 0.8, 0.7, 0.6]
    head[1, 0, :4] += 30  # second surest is wrong: precision 1, then 2/3 and 3/4 at recalls .25, .5 and .75
    found = detected(head, boxes, classes)
    recalls = np.linspace(0, 1, 101)
    by_hand = np.select([recalls <= 0.25, recalls <= 0.75], [1.0, 0.75], 0.0).mean()
    assert found["map"] == pytest.approx(by_hand, abs=1e-9)
