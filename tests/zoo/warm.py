"""What the builds' fork server has imported besides the toolchains: the libraries that nets are of."""

from __future__ import annotations

from zoo.makers import torchvision

torchvision()
import timm  # noqa: E402, F401 - it imports torchvision
import transformers  # noqa: E402, F401
