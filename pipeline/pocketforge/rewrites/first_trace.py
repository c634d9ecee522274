"""A first trace, made once by the fork server: torch imports four hundred modules for it, .2 CPU s in each stage that
traces or exports. Nothing of it is kept but what torch itself keeps.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch's own internals
    # No weights: drawing them would move the random numbers of every stage.
    torch.export.export(nn.ReLU(), (torch.zeros(1, 2),), strict=False)
