"""100 faces of Labeled Faces in the Wild and 100 crops beside faces, 25×25 and grey, as scikit-image ships them."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np


def crops() -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Each: uint8 (25, 25, 1), and whether it is a face."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("lfw_subset is in the package scikit-image: pip install scikit-image==0.26.0")
    images = np.load(Path(package.submodule_search_locations[0]) / "data" / "lfw_subset.npy")
    grey = np.round(images * 255).astype(np.uint8)[..., None]
    # The first half are faces: skimage.data.lfw_subset says so.
    return [(image, {"label": np.int64(place < 100)}) for place, image in enumerate(grey)]
