"""What is in an .npnet, for `pocketforge inspect`."""

import collections
import io
import json
import zipfile

import numpy as np

from pocketforge.runtimes.describe import Contents, TensorInfo, WeightInfo


def parse(data: bytes, file_format: str) -> Contents:
    """Raises ValueError for a damaged archive."""
    try:
        stored = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {name: stored[name] for name in stored.files}
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    manifest = json.loads(arrays.pop("manifest").tobytes())
    layer_of = {name: f"{kind}_{number}" for number, (kind, *names) in enumerate(manifest["steps"]) for name in names}
    inputs, outputs = (
        tuple(TensorInfo(each["name"], tuple(each["shape"]), each["dtype"]) for each in manifest[side])
        for side in ("inputs", "outputs")
    )
    weights = tuple(
        WeightInfo(name, array.shape, str(array.dtype), array.size, array.nbytes, layer_of.get(name, ""))
        for name, array in arrays.items()
    )
    return Contents(inputs, outputs, dict(collections.Counter(kind for kind, *_ in manifest["steps"])), weights, {})
