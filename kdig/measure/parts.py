"""How alike two networks explain an image: by the importance of its parts, and pixel by pixel.

Parts are either segments of similar colour (SLIC) or the cells of a grid. Importance is what an
attribution map holds in a part. Every comparison gives one number an image, so that differences
between networks can be paired by image.
"""

import numpy as np
import pandas as pd
import torch
from skimage.segmentation import slic
from torch import Tensor
from torch.nn import functional as F

# how strictly SLIC's segments are compact against uniform in colour; scikit-image's own default
COMPACTNESS = 10.0


def slic_parts(images: Tensor, parts: int) -> Tensor:
    """Segments of similar colour (SLIC; Achanta et al. 2012) of images uint8 (N, 3, H, W).

    About `parts` an image: int64 (N, H, W), the number of each pixel's part, from 0. Compactness is
    10, colours are compared in CIELAB, and nothing is smoothed before: scikit-image's defaults.
    """
    found = [
        slic(image, n_segments=parts, compactness=COMPACTNESS, start_label=0, channel_axis=-1)
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    return torch.from_numpy(np.stack(found)).long()


def grid_parts(images: Tensor, cells: int) -> Tensor:
    """The same for a grid of `cells` x `cells`, which knows nothing of the image: (N, H, W).

    Where the size is no multiple of `cells`, cells differ by a pixel.
    """
    n, _, height, width = images.shape
    rows, columns = (torch.arange(size) * cells // size for size in (height, width))
    return (rows[:, None] * cells + columns).expand(n, height, width)


def importance(maps: Tensor, parts: Tensor) -> Tensor:
    """What maps (N, H, W) hold in each of their parts, as a share of the whole: (N, P).

    P is the greatest number of parts; a part that an image does not have is nan.
    """
    count = int(parts.max()) + 1
    flat, values = parts.flatten(1), maps.flatten(1).double()
    held = values.new_zeros(len(maps), count).scatter_add(1, flat, values)
    there = held.new_zeros(held.shape).scatter(1, flat, 1.0) > 0
    whole = held.sum(1, keepdim=True).clamp_min(torch.finfo(held.dtype).tiny)
    return torch.where(there, held / whole, torch.nan)


def focus(held: Tensor, reference: Tensor, top: int = 5) -> Tensor:
    """The share of a map that lies in the `top` parts of another one, (N, P) each to (N,).

    The poster's "focus on the teacher's top-5 parts" is share / (1 - share), its ratio of the mass
    inside to the mass outside. With `top` parts or fewer it is 1.
    """
    ranked = reference.nan_to_num(-1.0)
    places = ranked.topk(min(top, held.shape[1]), dim=1).indices
    return held.gather(1, places).nansum(1)


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation of each row of (N, P) with the same row of another: (N,).

    Ties share their mean rank. Where a place is nan in one of them, it counts in neither. A row
    whose values are all equal has no ranks: nan.
    """
    known = ~(one.isnan() | other.isnan())
    ranks = [
        pd.DataFrame(torch.where(known, values, torch.nan).numpy()).rank(axis=1)
        for values in (one, other)
    ]
    return torch.tensor(ranks[0].corrwith(ranks[1], axis=1).to_numpy())


def map_cosine(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of the angle between two maps (N, H, W), pixel by pixel: (N,)."""
    return F.cosine_similarity(one.flatten(1).double(), other.flatten(1).double())


def top_overlap(one: Tensor, other: Tensor, share: float = 0.1) -> Tensor:
    """How many of the `share` brightest pixels of one map (N, H, W) are among those of the other,
    in percent: (N,).

    Maps that have nothing to do with each other overlap by 100 x `share` on average.
    """
    pixels = one[0].numel()
    count = max(1, round(share * pixels))
    marked = [
        torch.zeros(len(maps), pixels, dtype=torch.bool).scatter(
            1, maps.flatten(1).topk(count, dim=1).indices, True
        )
        for maps in (one, other)
    ]
    return 100 * (marked[0] & marked[1]).sum(1) / count


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """KL(other || one) of the outputs for each image, in nats, from logits (N, K): (N,)."""
    ours, theirs = one.double().log_softmax(1), other.double().log_softmax(1)
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)


def explanations(one: Tensor, other: Tensor, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every comparison of maps (N, H, W) with those of a reference: name -> (N,).

    `rank <name>` and `focus <name>` for each kind of `parts`, and pixel by pixel `cosine` and
    `overlap`.
    """
    found = {"cosine": map_cosine(one, other), "overlap": top_overlap(one, other)}
    for name, numbers in parts.items():
        ours, theirs = importance(one, numbers), importance(other, numbers)
        found[f"rank {name}"] = rank_correlation(ours, theirs)
        found[f"focus {name}"] = focus(ours, theirs)
    return found


def outputs(one: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Every comparison of logits (N, K) with those of a reference: name -> (N,).

    `logits` is Spearman's correlation of an image's logits, `same answer` 100 where the first
    choice is the same and 0 elsewhere (percent), `KL` the divergence (nats).
    """
    same = 100.0 * (one.argmax(1) == other.argmax(1))
    return {
        "logits": rank_correlation(one.double(), other.double()),
        "same answer": same.double(),
        "KL": divergence(one, other),
    }
