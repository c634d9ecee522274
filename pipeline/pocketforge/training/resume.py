"""The state of a broken-off training, in one file without pickle: safetensors, with the numbers as JSON in its header.

One file, so that a rename replaces tensors and numbers together: after a kill at any moment there is one whole state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pocketforge import events
from pocketforge.files import DRAFTS, replace_whole
from pocketforge.outcomes.train import Epoch

FORMAT = "1"
FILE = "resume.safetensors"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, beside its tensors. Floats come back bit for bit.

    Attributes:
        history: The epochs that are done.
        best_loss: The lowest on the samples held out; None where there is none yet.
        waited: Epochs since.
        stopped: Whether early stop has ended it.
    """

    history: tuple[Epoch, ...]
    best_loss: float | None
    waited: int
    stopped: bool

    def to_json(self) -> dict[str, object]:
        history = [epoch.given() for epoch in self.history]
        return {"history": history, "best_loss": self.best_loss, "waited": self.waited, "stopped": self.stopped}

    @classmethod
    def from_json(cls, text: str) -> Progress:
        """Raises ValueError, TypeError and KeyError for what is none."""
        numbers = json.loads(text)
        history = tuple(Epoch(**epoch) for epoch in numbers.pop("history"))
        return cls(history, **numbers)


def digest(tensors: Mapping[str, Tensor], *texts: str) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, and over `texts`."""
    import torch

    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha256.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy())
    for text in texts:
        sha256.update(text.encode() + b"\n")
    return sha256.hexdigest()


def save(folder: Path, fingerprint: str, tensors: Mapping[str, Tensor], progress: Progress) -> None:
    """Replace the state in `folder` in one rename."""
    from safetensors.torch import save as pack

    # Two names of one storage would be refused, and views would carry more than themselves.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    text = json.dumps(progress.to_json())
    header = {"format": FORMAT, "fingerprint": fingerprint, "numbers": text, "sha256": digest(plain, text)}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(DRAFTS):  # of a process that was killed while it wrote
        old.unlink(missing_ok=True)
    replace_whole(folder / FILE, pack(plain, header), on_disk=True)


def load(folder: Path, fingerprint: str, emit: events.Progress) -> tuple[dict[str, Tensor], Progress] | None:
    """The state in `folder`; None when there is none, or (with a message) when it is damaged or another training's."""
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        text = header["numbers"]
        progress = Progress.from_json(text)
        whole = header["sha256"] == digest(tensors, text)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        emit(0.0, f"training begins anew: {path} is damaged ({error})")
        return None
    if not whole:
        emit(0.0, f"training begins anew: {path} is damaged (its checksum is wrong)")
        return None
    if header.get("format") != FORMAT or header.get("fingerprint") != fingerprint:
        emit(0.0, f"training begins anew: {path} is of another training")
        return None
    return tensors, progress
