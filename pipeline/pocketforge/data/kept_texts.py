"""What is kept of texts beside their token ids: the texts that are judged, and the tokenizer. Who reads texts in an app
is handed these, not ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pocketforge.data.dataset import Samples
from pocketforge.files import Resolve
from pocketforge.recipe.consumers import text_step

# The eval samples' texts, a list in their order; and the tokenizer.json that made ids of them.
TEXTS, TOKENIZER = "eval_texts.json", "tokenizer.json"


def keep_texts(samples: Samples, resolve: Resolve, out: Path) -> None:
    """Write both, where a text is all that a sample is. samples: those that are judged."""
    step = text_step(samples.preprocess)
    if step is None:
        return
    (out / TOKENIZER).write_bytes(resolve(step.file).read_bytes())
    (out / TEXTS).write_text(json.dumps(list(_texts(samples)), ensure_ascii=False), encoding="utf-8")


def _texts(samples: Samples) -> Iterator[str]:
    for position in range(len(samples)):
        (text,) = samples.raw(position)
        yield str(text[()])
