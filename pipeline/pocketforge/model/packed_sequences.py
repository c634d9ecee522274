"""Models that pack sequences of several lengths (`pack_padded_sequence`): why none can be traced, and what to write."""

from __future__ import annotations

import traceback

from torch.nn.modules import rnn


def packed_hint(error: BaseException) -> str:
    """What to do where a recurrent layer was given a packed sequence as tracing failed; empty elsewhere.

    How many steps a graph has may not hang on values. What a layer that reads forwards answers at a step does not hang
    on those behind it: so a sample's last step is the same, and is picked afterwards.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == rnn.__file__]
    if not any(frame.f_locals.get("batch_sizes") is not None for frame in frames):
        return ""
    return (
        "pack_padded_sequence makes the number of steps hang on values, and the graph of a file cannot. Leave it out. "
        "A layer that reads one way: run all steps and pick each sample's last, y[torch.arange(len(y)), lengths - 1], "
        "which is the same. One that reads both ways: give it sequences without padding, a file for each length "
        "(sizes = [[…], […]] of a target): pocketforge docs inputs"
    )
