"""How alike two networks' attention is: maps for a whole split, their distance, and how
concentrated they are.
"""

import torch
from torch import Tensor, nn

from kdig.core.data import Split
from kdig.core.losses import attention_map
from kdig.core.networks import AttentionTap
from kdig.core.signals import Teacher


@torch.inference_mode()
def attention_maps(
    network: Teacher, split: Split, tap: str, batch_size: int = 250
) -> tuple[Tensor, Tensor]:
    """A of Eq. 2 for every picture, at the module `tap`: (N, P) of unit length, and the
    lengths (N,) before scaling.

    `network` is any stored network, teacher or student, as `Workspace.load_weights` gives it.
    """
    maps, lengths = [], []
    with AttentionTap(network.net, tap) as seen:
        for images in split.images.split(batch_size):
            network.model((images / 255).to(network.device, memory_format=torch.channels_last))
            assert seen.output is not None
            maps.append(attention_map(seen.output).cpu())
            lengths.append(seen.output.square().mean(1).flatten(1).norm(dim=1).cpu())
    return torch.cat(maps), torch.cat(lengths)


def attention_mse(maps: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference over the positions of each map, (N, P) to (N,): the number below a
    map of Figure S1.
    """
    return (maps - reference).square().mean(-1)


def effective_positions(maps: Tensor) -> Tensor:
    """Participation ratio of maps of unit length, (N, P) to (N,): 1 / sum A^4, the number of
    positions that carry a map.

    A map that is the same everywhere has P, a map with all its length in one position has 1.
    """
    return 1 / maps.pow(4).sum(-1)


def logit_gap(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How far the true class's logit stands above the mean of the others, and the others' standard
    deviation, each (N,).
    """
    true = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels[:, None], True)
    others = logits[~true].view(len(logits), -1)
    return logits[true] - others.mean(1), others.std(1)


def weight_overlap(first: nn.Module, second: nn.Module) -> dict[str, float]:
    """What two networks share in convolutions and linear layers of the same name and shape.

    `shared_layers` and `weights` count these layers and their weights, `copied` the layers with
    equal weights. `correlation` is that of all weights, each layer scaled to mean square 1. If one
    network's are independent draws, its standard deviation is 1 / sqrt(weights): without the
    scaling, the few large weights of depthwise layers would count most, and it would be greater.
    """
    ours, theirs = first.state_dict(), second.state_dict()
    shared = [
        name
        for name, w in ours.items()
        if w.ndim > 1 and name in theirs and theirs[name].shape == w.shape
    ]
    scaled = (
        [state[name].cpu().flatten() / state[name].cpu().square().mean().sqrt() for name in shared]
        for state in (ours, theirs)
    )
    both = torch.stack([torch.cat(layers) for layers in scaled])
    copied = sum(torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in shared)
    counts = {"shared_layers": len(shared), "weights": both.shape[1], "copied": copied}
    return counts | {"correlation": torch.corrcoef(both)[0, 1].item()}
