"""Samples of a folder of images and masks."""

from __future__ import annotations

import numpy as np

from pocketforge.data.annotated.masks_files import MaskSet
from pocketforge.data.base import Array
from pocketforge.data.file_samples import ImageFiles
from pocketforge.data.labels import read_labels
from pocketforge.data.read_mask import IGNORED, check_mask, read_mask
from pocketforge.data.targets import Targets
from pocketforge.errors import ModelError

_LOOKED_AT = 16


class MaskImages(ImageFiles):
    """`mask` of each image: class numbers, 255 where nothing is judged."""

    def __init__(self, found: MaskSet, labels: tuple[str, ...], values: tuple[int, ...]) -> None:
        super().__init__(
            [image for _, image, _ in found.pairs],
            [image.relative_to(found.folder).as_posix() for _, image, _ in found.pairs],
            [split for split, _, _ in found.pairs],
        )
        self._masks = [mask for _, _, mask in found.pairs]
        self._values = values
        # The data's own where it has some: values of masks are of these, whatever order data.labels has.
        self.labels = read_labels(found.names, "data.source") if found.names else labels
        if values and self.labels and len(values) != len(self.labels):
            raise ModelError(
                f"data.mask_values names {len(values)} classes, there are {len(self.labels)} class names",
                "one value a class, in the order of class numbers",
            )
        if not values:
            self._refuse_black_and_white()

    def _refuse_black_and_white(self) -> None:
        """Where 255 is drawn for what is shown, all of it would be ignored, and every answer right."""
        seen: set[int] = set()
        for mask in self._masks[:: max(1, len(self._masks) // _LOOKED_AT)]:
            seen.update(np.unique(read_mask(mask)).tolist())
        if seen == {0, IGNORED} or seen == {IGNORED}:
            raise ModelError(
                f"data.source: masks as {self._masks[0]} hold no values but 0 and {IGNORED}, and {IGNORED} is "
                "ignored: is it a class?",
                f"write in the recipe's [data]: mask_values = [0, {IGNORED}] ({IGNORED} becomes class 1)",
            )

    def sample(self, index: int) -> tuple[tuple[Array, ...], Targets]:
        image, path = self.image(index), self._masks[index]
        mask = read_mask(path, self._values)
        check_mask(mask, image, len(self.labels), f"data.source: the mask {path}")
        return (image,), Targets({"mask": mask})
