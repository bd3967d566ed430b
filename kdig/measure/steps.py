"""Ways to place few gradients on the path of integrated gradients (Eq. 3), judged by the overlay
that they give (Eqs. 4 to 6), not by the sum of the attributions.

A gradient is a forward and a backward pass to the image. A forward pass alone is counted as half of
one.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import orthogonal_mp_gram
from torch import Tensor, nn

from kdig.core.attribution import attribution_map, autograd_gradient, path_sum, quadrature
from kdig.core.augment import normalise_map

# forward passes that look along the path before gradients are placed, and what one costs
PILOT, FORWARD = 9, 0.5
# of what the pilot sees, half decides; the other half is spread evenly, so that no part is left out
_EVEN = 0.5
# places among which the fixed ones are chosen
GRID = 64

Nodes = tuple[Tensor, Tensor]  # places and weights on [0, 1], both (N, steps)


def overlay_levels(maps: Tensor, reference: Tensor) -> Tensor:
    """How far two overlays lie apart (exponent 1, blend a half), in levels of 255: (N, H, W).

    The image is in both, so that only its maps (N, H, W) count.
    """
    ones = torch.ones(len(maps), dtype=maps.dtype)
    return 127.5 * (normalise_map(maps, ones) - normalise_map(reference, ones)).abs()


def judged(maps: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """For each image (N,) the mean distance of overlays (`levels`), and the percentage of pixels
    within half a level of 255 (`equal`), which is what rounding to 8 bits leaves.
    """
    off = overlay_levels(maps, reference).flatten(1)
    return {"levels": off.mean(1), "equal": 100 * (off <= 0.5).double().mean(1)}


def placed(scores: Tensor, steps: int) -> Nodes:
    """Places where the score changes: from scores (N, K + 1) at equal distances on the path.

    As many places fall on a part of the path as the score changes there (2302.11107's idea; half
    of them evenly). The weights are those of the midpoint rule under this change of variable.
    """
    change = scores.diff(dim=1).abs().double()
    parts = change.shape[1]
    share = change / change.sum(1, keepdim=True).clamp_min(1e-12)
    share = (1 - _EVEN) * share + _EVEN / parts
    ends = torch.nn.functional.pad(share.cumsum(1), (1, 0))
    wanted = ((torch.arange(steps) + 0.5) / steps).to(share).expand(len(share), steps)
    part = (torch.searchsorted(ends, wanted.contiguous(), right=True) - 1).clamp(0, parts - 1)
    inside = (wanted - ends.gather(1, part)) / share.gather(1, part)
    weights = 1 / (steps * parts * share.gather(1, part))
    return (part + inside) / parts, weights / weights.sum(1, keepdim=True)


def fitted(
    model: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor, steps: int
) -> Nodes:
    """Fixed places and their weights, (1, steps) each, that suit `images` best.

    Of `GRID` midpoints those are chosen, one after the other, from which the attributions of all are
    predicted best (orthogonal matching pursuit of scikit-learn): RiemannOpt's aim (2410.04118), by
    least squares. Each image counts alike.
    """
    _, grid = quadrature("riemann_middle", GRID)
    gradient, gram, toward = (
        autograd_gradient(model, "logit"),
        np.zeros((GRID, GRID)),
        np.zeros(GRID),
    )
    for image, target in zip(images.split(1), targets.split(1)):
        path = baseline + images.new_tensor(grid).view(-1, 1, 1, 1) * (image - baseline)
        found = gradient(path, target.expand(GRID)) * (image - baseline)
        columns = found.flatten(1).double().numpy()
        whole = columns.mean(0)
        columns = columns / np.linalg.norm(whole)
        gram += columns @ columns.T
        toward += columns @ columns.mean(0)
    weights = orthogonal_mp_gram(gram, toward, n_nonzero_coefs=steps)
    chosen = np.flatnonzero(weights)
    places, sizes = (images.new_tensor(values[chosen])[None] for values in (grid, weights))
    return places, sizes


def by_rule(images: Tensor, rule: str, steps: int) -> Nodes:
    """The places and weights of a quadrature, the same for each of `images`."""
    weights, places = quadrature(rule, steps)  # type: ignore[arg-type]
    place, weight = (images.new_tensor(v).expand(len(images), steps) for v in (places, weights))
    return place, weight


def pilot(model: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor) -> Tensor:
    """The target's score at `PILOT` equal distances on the path, by forward passes: (N, PILOT)."""
    scores = []
    with torch.no_grad():
        for place in torch.linspace(0, 1, PILOT):
            found = model(baseline + place * (images - baseline))
            scores.append(found.gather(1, targets[:, None]))
    return torch.cat(scores, 1)


def schemes(
    model: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor, fit: tuple[Tensor, Tensor]
) -> dict[str, Callable[[int], Nodes]]:
    """Name -> the nodes for a number of gradients, all that a scheme needs counted in it.

    `fit` are the images and labels that the fixed nodes are fitted on, once for all.
    """
    scores = pilot(model, images, targets, baseline)

    def fixed(gradients: int) -> Nodes:
        places, weights = fitted(model, *fit, baseline, gradients)
        shape = (len(images), places.shape[1])
        return places.expand(shape), weights.expand(shape)

    return {
        "Gauss-Legendre": lambda n: by_rule(images, "gausslegendre", n),
        "midpoint": lambda n: by_rule(images, "riemann_middle", n),
        "placed by forward passes": lambda n: placed(scores, max(1, int(n - FORWARD * PILOT))),
        "fixed, fitted": fixed,
    }


def map_at(
    model: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor, nodes: Nodes
) -> Tensor:
    """The map (N, H, W) that nodes give."""
    places, weights = (values.to(images) for values in nodes)
    return attribution_map(path_sum(model, images, targets, baseline, places, weights))
