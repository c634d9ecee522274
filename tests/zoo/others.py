"""Nets that are no image classifiers: segmenters, detectors, pictures, keypoints, texts, signals, vectors."""

from __future__ import annotations

from typing import Any

from zoo import tasks
from zoo.entries import Net, Task
from zoo.makers import own

# What has no recurrent kernel in 8 bits elsewhere has one in ONNX Runtime.
RECURRENT = {"onnx": "dynamic_int8"}
DYNAMIC = {"onnx": "dynamic_int8", "tflite": "dynamic_int8", "executorch": "dynamic_int8"}


def _net(name: str, family: str, task: Task, of: str, size: int, steps: int, rate: float, **more: Any) -> Net:
    """of: `MODULE:CLASS` of zoo/own."""
    int8, batch = more.pop("int8", {}), more.pop("batch", 16)
    return Net(name, family, task, own, {"of": of, **more}, size, steps, rate, batch, int8)


def _segmenters() -> list[Net]:
    def one(name: str, of: str, steps: int = 150, rate: float = 3e-3, **args: Any) -> Net:
        return _net(name, "segmentation", tasks.MASKS, f"pictures:{of}", 64, steps, rate, **args)

    return [
        one("unet", "UNet", outputs=3),
        one("unet_bilinear", "UNet", outputs=3, up="bilinear"),
        one("tv_lraspp_mobilenet_v3_large", "Segmenter", model="lraspp_mobilenet_v3_large"),
        one("tv_deeplabv3_mobilenet_v3_large", "Segmenter", 80, 1e-3, model="deeplabv3_mobilenet_v3_large"),
        one("fpn_mobilenetv2_050", "Pyramid", backbone="mobilenetv2_050"),
    ]


def _places() -> list[Net]:
    return [
        _net("yolo_v5_like", "detection", tasks.HEAD, "places:Yolo", 96, 300, 3e-3, v5=True, batch=8),
        _net("yolo_v8_like", "detection", tasks.HEAD, "places:Yolo", 96, 300, 3e-3, batch=8),
        _net("tv_ssdlite_mobilenet_v3_large", "detection", tasks.BOXES, "places:SsdLite", 96, 200, 2e-3, batch=8),
        _net("simple_baseline", "keypoints", tasks.HEATMAPS, "places:Heatmaps", 48, 200, 3e-3),
        _net("keypoints_mobilenetv2_050", "keypoints", tasks.KEYPOINTS, "places:Points", 48, 200, 2e-3,
             backbone="mobilenetv2_050"),
    ]  # fmt: skip


def _pictures() -> list[Net]:
    larger, cleaner = tasks.LARGER, tasks.CLEANER
    return [
        _net("espcn", "pictures", larger, "pictures:Espcn", 24, 200, 3e-3),
        _net("fsrcnn", "pictures", larger, "pictures:Fsrcnn", 24, 200, 3e-3),
        _net("edsr_small", "pictures", larger, "pictures:Edsr", 24, 200, 2e-3),
        _net("dncnn", "pictures", cleaner, "pictures:DnCnn", 48, 150, 2e-3),
        _net("unet_denoiser", "pictures", cleaner, "pictures:Denoiser", 48, 100, 2e-3),
        _net("autoencoder", "pictures", tasks.ITSELF, "pictures:Autoencoder", 8, 400, 3e-3),
    ]


def _texts() -> list[Net]:
    pages, letters = tasks.PAGES, tasks.LETTERS
    bert: dict[str, Any] = {"of": "texts:Bert", "size": 32, "steps": 250, "rate": 1e-3, "int8": DYNAMIC}
    page = {**bert, "head": "SequenceClassification", "classes": 6}
    tag = {**bert, "head": "TokenClassification", "classes": 3}
    rest: dict[str, Any] = {"size": 32, "steps": 250, "rate": 3e-3}
    return [
        _net("bert_tiny", "text", pages, kind="Bert", **page),
        _net("distilbert_tiny", "text", pages, kind="DistilBert", **page),
        _net("albert_tiny", "text", pages, kind="Albert", embedding_size=32, **page),
        _net("electra_tiny_tagger", "text", letters, kind="Electra", embedding_size=32, **tag),
        _net("bert_tiny_tagger", "text", letters, kind="Bert", **tag),
        _net("mobilebert_tiny", "text", pages, kind="MobileBert", embedding_size=32, intra_bottleneck_size=32, **page),
        _net("textcnn", "text", pages, "texts:TextCnn", classes=6, **rest),
        _net("gru_tagger", "text", letters, "texts:Tagger", kind="GRU", classes=3, int8=RECURRENT, **rest),
        _net("lstm_tagger", "text", letters, "texts:Tagger", kind="LSTM", classes=3, int8=RECURRENT, **rest),
    ]


def _signals() -> list[Net]:
    def one(name: str, task: Task, of: str, size: int, **args: Any) -> Net:
        return _net(name, "signals", task, f"signals:{of}", size, 250, 3e-3, **args)

    return [
        one("gru", tasks.ROWS, "Recurrent", 8, kind="GRU", int8=RECURRENT),
        one("lstm", tasks.ROWS, "Recurrent", 8, kind="LSTM", int8=RECURRENT),
        one("bilstm", tasks.ROWS, "Recurrent", 8, kind="LSTM", both=True, int8=RECURRENT),
        one("deepconvlstm", tasks.WINDOWS, "ConvLstm", 128, int8=RECURRENT),
        one("har_cnn", tasks.WINDOWS, "HarCnn", 128),
        one("tcn", tasks.WINDOWS, "Tcn", 128),
        one("m5", tasks.WAVES, "M5", 1024),
        one("ds_cnn", tasks.WAVES, "DsCnn", 1024),
        one("pcen", tasks.WAVES, "Pcen", 1024),
        one("conv_tasnet", tasks.CLEAN_WAVES, "ConvTasNet", 512),
    ]


def _vectors() -> list[Net]:
    return [
        _net("siamese", "vectors", tasks.PAIRS, "vectors:Siamese", 8, 400, 3e-3, batch=32),
        _net("embedding", "vectors", tasks.NEAR, "vectors:Embedding", 8, 200, 3e-3, batch=32),
        _net("traits", "vectors", tasks.TRAITS, "vectors:Labels", 8, 300, 3e-3),
        _net("diabetes_mlp", "vectors", tasks.DIABETES, "vectors:Mlp", 10, 400, 3e-3),
    ]


NETS = (*_vectors(), *_signals(), *_pictures(), *_places(), *_segmenters(), *_texts())
