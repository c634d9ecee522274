"""Metrics of images, sound and text, by torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from pocketforge.accuracy.base import Array, Batch, Figures, Unfit
from pocketforge.accuracy.exact import Value, ratio
from pocketforge.accuracy.library import text_class, torchmetrics

# An image that is right to the bit has no noise: its PSNR is this.
PERFECT_PSNR_DB = 100.0


class ImageTally:
    """Images, (n, C, H, W) or (n, H, W, C), against `image` (H, W, C): each image's own figure, averaged."""

    def __init__(self, target: str, white: float, *, with_ssim: bool) -> None:
        self.target, self.white, self.with_ssim = target, white, with_ssim
        self.psnr_db: list[Array] = []
        self.ssim: list[Array] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        import torch

        answered, wanted = np.asarray(predictions, np.float64), np.asarray(targets[self.target])
        truth = wanted.transpose(0, 3, 1, 2) / (255.0 if wanted.dtype == np.uint8 else 1.0)
        if answered.shape != truth.shape and answered.shape == wanted.shape:
            answered = answered.transpose(0, 3, 1, 2)
        if answered.shape != truth.shape:
            sizes = f"{list(answered.shape[1:])}, the targets are {list(wanted.shape[1:])} (height, width, channels)"
            raise Unfit(f"it answers {sizes}")
        if np.abs(answered).max(initial=0) > 2 * self.white and self.white == 1.0:
            raise Unfit(f"it reaches {np.abs(answered).max():g}, and white is 1: set post = {{ white = 255 }}")
        one, other = (torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in (answered / self.white, truth))
        noise = ((one - other) ** 2).mean((1, 2, 3)).numpy()
        with np.errstate(divide="ignore"):
            self.psnr_db.append(np.minimum(-10 * np.log10(noise), PERFECT_PSNR_DB))
        if self.with_ssim:
            self.ssim.append(self._ssim(one, other))

    def _ssim(self, one: object, other: object) -> Array:
        measure = torchmetrics("image").structural_similarity_index_measure
        try:
            found: Array = measure(one, other, data_range=1.0, reduction="none").numpy()
        except (ValueError, RuntimeError) as error:
            raise Unfit(f"ssim: {error}") from error
        return found

    def figures(self, wanted: Collection[str]) -> Figures:
        psnr_db = np.concatenate(self.psnr_db)
        values: dict[str, Value] = {"psnr_db": float(psnr_db.mean())}
        values |= {"ssim": float(np.concatenate(self.ssim).mean())} if self.with_ssim else {}
        return Figures(values, {}, len(psnr_db))


class WaveformTally:
    """Sound, (n, T) or (n, 1, T), against `waveform` of as many values: each sound's own figure, averaged."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.si_sdr_db: list[float] = []
        self.snr_db: list[float] = []

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        import torch

        measures = torchmetrics("audio")
        for answered, wanted in zip(predictions, targets[self.target], strict=True):
            sound, truth = np.asarray(answered, np.float64).reshape(-1), np.asarray(wanted, np.float64)
            if sound.shape != truth.shape:
                raise Unfit(f"it gives {len(sound):,} values of sound, the target has {len(truth):,}")
            if not truth.any():
                raise Unfit("a target is silent (all zeros): its ratio of signal to noise says nothing")
            pair = (torch.from_numpy(sound), torch.from_numpy(truth))
            self.si_sdr_db.append(float(measures.scale_invariant_signal_distortion_ratio(*pair)))
            self.snr_db.append(float(measures.signal_noise_ratio(*pair)))

    def figures(self, wanted: Collection[str]) -> Figures:
        count = len(self.snr_db)
        values: dict[str, Value] = {
            "si_sdr_db": math.fsum(self.si_sdr_db) / count,
            "snr_db": math.fsum(self.snr_db) / count,
        }
        return Figures(values, {}, count)


class TextTally:
    """Texts against `text`: errors in words and in letters (Levenshtein's) over how many the targets have."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rates = {"wer": text_class("WordErrorRate")(), "cer": text_class("CharErrorRate")()}

    def add(self, predictions: Batch, targets: Mapping[str, Batch]) -> None:
        for rate in self.rates.values():
            rate.update(list(predictions), list(targets[self.target]))

    def figures(self, wanted: Collection[str]) -> Figures:
        # Its states are counts, in float32: exact to 16 million.
        counts = {name: (round(float(rate.errors)), round(float(rate.total))) for name, rate in self.rates.items()}
        values: dict[str, Value] = {name: ratio(errors, total) for name, (errors, total) in counts.items()}
        why = {name: "the targets have no word" for name, (_, total) in counts.items() if not total}
        return Figures(values, {}, counts["cer"][1], why)
