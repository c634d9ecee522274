"""Attention modules found by their attributes, whatever library they come from, so that whole heads can be removed.

Two forms are known: separate query, key and value layers (transformers), and one fused layer (timm). A head is its
head_dim neighbouring outputs of the query, of the key and of the value, and the inputs of the layer after them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

_HEADS = ("num_attention_heads", "n_heads", "num_heads", "heads", "nhead")
# Heads times head_dim, under the names that libraries give it.
_WIDTH = ("all_head_size", "attn_dim", "inner_dim", "embed_dim", "dim")
_SEPARATE = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
)
_FUSED = ("qkv", "to_qkv", "qkv_proj", "Wqkv", "c_attn", "in_proj", "query_key_value")


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention module.

    Attributes:
        name: Its name.
        layers: The names of the query, key and value layers, or of the fused one.
        heads: How many it has.
        head_dim: Channels of one head.
        fixed: Why its heads cannot be removed one by one; empty where they can.
    """

    name: str
    layers: tuple[str, ...]
    heads: int
    head_dim: int
    fixed: str = ""


def find_attention(module: nn.Module) -> list[Attention]:
    """Every attention module inside `module`, in the module's order."""
    modules = []
    for name, candidate in module.named_modules():
        if isinstance(candidate, nn.MultiheadAttention):
            why = "torch.nn.MultiheadAttention computes with as many heads as fit its input's width"
            modules.append(Attention(name, (), candidate.num_heads, candidate.head_dim, why))
        elif heads := next((getattr(candidate, n) for n in _HEADS if type(getattr(candidate, n, None)) is int), 0):
            attention = _separate(name, candidate, heads) or _fused(name, candidate, heads)
            if attention is not None:
                modules.append(attention)
    return modules


def set_heads(module: nn.Module, attention: Attention, heads: int) -> None:
    """Tell the attention module inside `module` that it has `heads` heads now; its layers are cut elsewhere."""
    owner = module.get_submodule(attention.name)
    for name in _HEADS:
        if getattr(owner, name, None) == attention.heads:
            setattr(owner, name, heads)
    width = attention.heads * attention.head_dim
    for name in _WIDTH:
        if getattr(owner, name, None) == width:
            setattr(owner, name, heads * attention.head_dim)


def _separate(name: str, module: nn.Module, heads: int) -> Attention | None:
    for names in _SEPARATE:
        layers = [getattr(module, n, None) for n in names]
        if not all(isinstance(layer, nn.Linear) for layer in layers):
            continue
        widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        fixed = ""
        if len(set(widths)) > 1 or widths[0] % heads:
            fixed = f"its query, key and value have {widths} outputs, not {heads} heads each"
        return Attention(name, tuple(_inside(name, n) for n in names), heads, max(1, widths[0] // heads), fixed)
    return None


def _fused(name: str, module: nn.Module, heads: int) -> Attention | None:
    for n in _FUSED:
        layer = getattr(module, n, None)
        if isinstance(layer, nn.Linear):
            fixed = "" if layer.out_features % (3 * heads) == 0 else f"{layer.out_features} outputs are not 3 × {heads}"
            return Attention(name, (_inside(name, n),), heads, max(1, layer.out_features // (3 * heads)), fixed)
    return None


def _inside(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner else name
