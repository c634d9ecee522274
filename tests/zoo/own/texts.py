"""Words: transformers of the library of that name, and small nets for text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WORDS, LENGTH = 400, 32


class Bert(nn.Module):
    """A model of transformers, small, for pages (`classes`) or for each word's tag.

    kind: its configuration's class, without Config: `Bert`, `DistilBert`, `Albert`, `Electra`, `MobileBert`, `Roberta`.
    head: `SequenceClassification` or `TokenClassification`.
    """

    def __init__(self, kind: str, head: str, classes: int, **args: Any) -> None:
        super().__init__()
        import transformers

        distil = {"dim": 64, "hidden_dim": 128, "n_heads": 4, "n_layers": 2}
        plain = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}
        sizes: dict[str, Any] = distil if kind == "DistilBert" else plain
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=WORDS, max_position_embeddings=LENGTH + 2, num_labels=classes, **{**sizes, **args}
        )
        self.net = getattr(transformers, f"{kind}For{head}")(config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.net(input_ids=ids, attention_mask=mask).logits


class TextCnn(nn.Module):
    """Kim 2014: kernels of several widths over the words' vectors, each one's largest answer."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 32)
        self.kernels = nn.ModuleList(nn.Conv1d(32, width, n) for n in (2, 3, 4))
        self.head = nn.Linear(3 * width, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = (self.words(ids) * mask[..., None]).transpose(1, 2)
        return self.head(torch.cat([torch.relu(kernel(x)).amax(2) for kernel in self.kernels], 1))


class Tagger(nn.Module):
    """A recurrent net in both directions that tags each word."""

    def __init__(self, kind: str, classes: int, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 32)
        self.net = getattr(nn, kind)(32, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.net(self.words(ids) * mask[..., None])[0])
