"""MACs of recurrent layers are counted, whichever kernels run them: no budget on `macs` is kept by not counting."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from pocketforge.model.load import count_macs, trace  # noqa: E402

# Of torch's own switch for oneDNN, about Intel GPUs.
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")
STEPS = 5
LAYERS = {
    "lstm": nn.LSTM(8, 12, 2, batch_first=True),
    "lstm both ways": nn.LSTM(8, 12, bidirectional=True),
    "gru": nn.GRU(8, 12),
    "rnn": nn.RNN(8, 12),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("with_mkldnn", [True, False])
def test_a_recurrent_layer_is_its_weights_times_its_steps(name: str, with_mkldnn: bool) -> None:
    layer = LAYERS[name].eval()
    x = torch.zeros(1, STEPS, 8) if layer.batch_first else torch.zeros(STEPS, 1, 8)
    weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    with torch.backends.mkldnn.flags(enabled=with_mkldnn):
        assert count_macs(layer, (x,)) == STEPS * weights
        assert count_macs(trace(layer, (x,)).module(), (x,)) == STEPS * weights


def test_a_parameter_that_is_expanded_into_a_layer_is_counted() -> None:
    """Learnt queries, as DETR's decoder has them: torch's counter asks for the gradient of what a layer is given."""

    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.layer = nn.Parameter(torch.zeros(6, 8)), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.queries.expand(x.shape[0], -1, -1)) + x

    model = Queries()
    assert count_macs(model, (torch.zeros(1, 6, 4),)) == 6 * 8 * 4
    assert all(parameter.requires_grad for parameter in model.parameters())
