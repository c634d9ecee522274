"""Runs one MediaPipe task on samples, in MediaPipe's own environment: the standard library, NumPy and mediapipe alone.

    python -I mediapipe_tasks.py ORDER ANSWER

ORDER is JSON: `task` (one of TASKS), `model` (a .tflite file), `samples` (an .npy file of uint8 [n, height, width, 3],
RGB, or of float32 [n, samples]; or a .json list of texts), `rate_hz` (of sound), `outputs` (the .npy file to write,
float32: [n, classes or dimensions], of a segmenter [n, height, width, classes + 1], of a detector [n, rows, 6]), `rows`
and `labels` of a detector: how many boxes there are at most, and the names of its classes. ANSWER gets the package's
version and the labels by class number, as the task gave them.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, audio, text, vision
from mediapipe.tasks.python.components import containers


def pictures(path):
    for sample in np.load(path, mmap_mode="r"):
        yield mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.array(sample))


def texts(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def classifier(kind, options, samples):
    def run(order, labels):
        given = options(base_options=BaseOptions(model_asset_path=order["model"]), max_results=-1)
        with kind.create_from_options(given) as task:
            for each in samples(order["samples"]):
                yield scores_of(task.classify(each), labels)

    return run


def embedder(kind, options, samples):
    def run(order, labels):
        with kind.create_from_options(options(base_options=BaseOptions(model_asset_path=order["model"]))) as task:
            for each in samples(order["samples"]):
                yield np.asarray(task.embed(each).embeddings[0].embedding, np.float32)

    return run


def scores_of(result, labels):
    categories = result.classifications[0].categories
    scores = np.zeros(len(categories), np.float32)
    for category in categories:
        scores[category.index] = category.score
        labels[category.index] = category.category_name or ""
    return scores


def hear(order, labels):
    options = audio.AudioClassifierOptions(base_options=BaseOptions(model_asset_path=order["model"]), max_results=-1)
    with audio.AudioClassifier.create_from_options(options) as task:
        for sample in np.load(order["samples"], mmap_mode="r"):
            heard = containers.AudioData.create_from_array(np.array(sample), order["rate_hz"])
            windows = task.classify(heard)
            if len(windows) != 1:
                raise ValueError(f"the task made {len(windows)} windows of a sample of {len(sample)}, wanted one")
            yield scores_of(windows[0], labels)


def segment(order, labels):
    """Each class's share of each pixel, and behind them the category that the task gives the pixel."""
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=order["model"]),
        output_confidence_masks=True,
        output_category_mask=True,
    )
    with vision.ImageSegmenter.create_from_options(options) as task:
        labels.update(enumerate(task.labels))
        for picture in pictures(order["samples"]):
            found = task.segment(picture)
            masks = [*found.confidence_masks, found.category_mask]
            shape = (picture.height, picture.width)
            yield np.stack([np.array(mask.numpy_view(), np.float32).reshape(shape) for mask in masks], -1)


def detect(order, labels):
    """Boxes of a picture in a row each: left, top, width and height in pixels, class, score; the rest is NaN."""
    options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=order["model"]), max_results=-1)
    with vision.ObjectDetector.create_from_options(options) as task:
        for picture in pictures(order["samples"]):
            rows = np.full((order["rows"], 6), np.nan, np.float32)
            for place, found in enumerate(task.detect(picture).detections):
                box, category = found.bounding_box, found.categories[0]
                # With labels a task gives a class by its name alone.
                name, number = category.category_name, category.index
                number = order["labels"].index(name) if number is None else number
                rows[place] = box.origin_x, box.origin_y, box.width, box.height, number, category.score
                labels[number] = name or ""
            yield rows


TASKS = {
    "TextClassifier": classifier(text.TextClassifier, text.TextClassifierOptions, texts),
    "TextEmbedder": embedder(text.TextEmbedder, text.TextEmbedderOptions, texts),
    "ImageSegmenter": segment,
    "ObjectDetector": detect,
    "ImageClassifier": classifier(vision.ImageClassifier, vision.ImageClassifierOptions, pictures),
    "ImageEmbedder": embedder(vision.ImageEmbedder, vision.ImageEmbedderOptions, pictures),
    "AudioClassifier": hear,
}


def main(order_path, answer_path):
    order = json.loads(Path(order_path).read_text(encoding="utf-8"))
    labels = {}
    np.save(order["outputs"], np.stack(list(TASKS[order["task"]](order, labels))))
    answer = {
        "version": importlib.metadata.version("mediapipe"),
        "labels": [labels[number] for number in sorted(labels)],
    }
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
