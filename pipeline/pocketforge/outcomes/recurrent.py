"""Why a model is refused whose recurrent layers would stay float, and the ways out: in the words of every stage."""

from __future__ import annotations

from collections.abc import Sequence

_LSTM = "nn.LSTM (without proj_size: a linear layer behind it projects as well)"
MOST_IN_FLOAT = 0.5  # of the weights: more, and the file is a float file by another name


def refusal(scheme: str, share: float, layers: Sequence[str], runtime: str = "") -> tuple[str, str]:
    """Message and hint. layers: those that would stay float, as the user knows them; runtime: what it is called whose
    file is meant; empty where no runtime makes them int8."""
    said = f"{scheme} would leave {share:.0%} of the weights in float: {', '.join(layers)}; "
    halves = 'or "fp16" (half the bytes; onnx and tflite)'
    if runtime:
        return (
            f"{said}{runtime} has no int8 form of such a layer",
            f'runtime = "onnx", whose LSTM has one; scheme = "fp32", {halves}; or write the cell with linear layers, '
            "which have one everywhere: pocketforge docs inputs",
        )
    if scheme == "dynamic_int8":
        return (
            f"{said}no runtime here has a dynamic int8 kernel for them",
            f'{_LSTM}, for which ONNX Runtime has one; scheme = "fp32", {halves}; or write the cell with linear '
            "layers, which have: pocketforge docs inputs",
        )
    return (
        f"{said}recurrent layers have no static int8 form here",
        f'scheme = "fp32", {halves}, or "dynamic_int8" ({_LSTM}, in onnx); or write the cell with linear layers, which '
        "have: pocketforge docs inputs",
    )
