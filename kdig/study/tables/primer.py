"""The tables of `00_primer`."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from kdig.core.attribution import Output, completeness_delta, integrated_gradients


@torch.no_grad()
def scores(
    students: Mapping[str, Sequence[nn.Module]], images: Tensor, labels: Tensor, digit: int
) -> pd.DataFrame:
    """A row for each student, by its `way` to learn: percent of the images of `digit`, and of all
    images, that it names rightly.
    """
    rows = []
    for way, nets in students.items():
        for net in nets:
            right = (net(images).argmax(1) == labels).double().mul(100)
            recall = right[labels == digit].mean().item()
            row = {"way": way, f"recall of {digit} (%)": recall}
            rows.append(row | {"all digits (%)": right.mean().item()})
    return pd.DataFrame(rows)


def completeness(
    net: nn.Module, images: Tensor, labels: Tensor, steps: Sequence[int]
) -> pd.DataFrame:
    """What attributions from black lack of F(x) - F(x'), in percent of it: for the logit and the
    probability (`curve`) and each number of steps (`x`), the median over the images (`value`) and
    the quartiles (`low`, `high`).
    """
    black, rows = torch.zeros(1, images.shape[1], 1, 1), []
    outputs: dict[str, Output] = {"F: probability": "softmax", "F: logit": "logit"}
    for curve, output in outputs.items():
        for count in steps:
            found = integrated_gradients(
                net, images, labels, black, steps=count, rule="riemann_middle", output=output
            )
            delta = completeness_delta(net, images, labels, found, black, output).abs()
            low, middle, high = (
                delta.quantile(delta.new_tensor([0.25, 0.5, 0.75])).mul(100).tolist()
            )
            rows.append({"curve": curve, "x": count, "value": middle, "low": low, "high": high})
    return pd.DataFrame(rows)
