"""Multiply-accumulates, counted by torch.utils.flop_counter, and what it does not know by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode


def counter() -> FlopCounterMode:
    """Counts two operations a MAC of convolutions, matrix products and recurrent layers while it is entered."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _one_lstm_layer})


def _one_lstm_layer(
    inputs: Sequence[int], of_input: Sequence[int], of_state: Sequence[int], *_others: object, **_named: object
) -> int:
    """One layer, one way, by the shapes of its input (steps, batch, values) and its two weights.

    Where oneDNN runs an LSTM, torch calls this operator, which its counter takes for nothing: without it, a model has
    another number of MACs on each kind of processor, and almost none.
    """
    steps = math.prod(inputs[:-1])
    return 2 * steps * (math.prod(of_input) + math.prod(of_state))
