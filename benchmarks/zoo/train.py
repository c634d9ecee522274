"""Train zoo models for a minute or two each on scikit-learn's digits, as the recipe's data shows them.

    python benchmarks/zoo/train.py build/zoo/weights --seconds 90 [--only NAME …]

Writes NAME.safetensors and a line of what was reached; a model whose file is there is passed over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import nets
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from models import BY_NAME, ENTRIES, Entry

BATCH, EVAL_SHARE = 32, 0.3


def digits(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, size, size) in -1 to 1, and class numbers."""
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    images = nn.functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    return ((images - 0.5) / 0.5).expand(-1, 3, -1, -1), torch.tensor(bunch.target)


def train(entry: Entry, seconds: float) -> tuple[torch.nn.Module, dict[str, float]]:
    """CPU seconds of this process are what count: the machine may be shared."""
    torch.manual_seed(0)
    net = nets.build(entry.name)
    images, labels = digits(entry.size)
    order = torch.randperm(len(labels))
    held = order[: int(EVAL_SHARE * len(order))]
    rest = order[len(held) :]
    optimizer = torch.optim.AdamW(net.parameters(), lr=entry.rate, weight_decay=0.01)
    started, steps, net = time.process_time(), 0, net.train()
    while (spent := (time.process_time() - started) / seconds) < 1:
        rate = entry.rate * min(1.0, (steps + 1) / 10) * max(0.05, 1 - spent)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = rest[torch.randint(len(rest), (BATCH,))]
        answer = net(images[batch])
        loss = nn.functional.cross_entropy(answer[0] if isinstance(answer, tuple) else answer, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        steps += 1
    net.eval()
    with torch.no_grad():
        right = sum(int((net(images[part]).argmax(1) == labels[part]).sum()) for part in held[:240].split(16))
    return net, {"steps": steps, "accuracy": right / 240}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--only", nargs="*", choices=sorted(BY_NAME), default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for entry in ENTRIES:
        path = arguments.out / f"{entry.name}.safetensors"
        if path.exists() or (arguments.only and entry.name not in arguments.only):
            continue
        net, reached = train(entry, arguments.seconds)
        partial = path.with_suffix(".partial")
        save_file({key: value.clone().contiguous() for key, value in net.state_dict().items()}, partial)
        with (arguments.out / "trained.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": entry.name, **reached}) + "\n")
        partial.rename(path)
        print(entry.name, reached, flush=True)


if __name__ == "__main__":
    main()
