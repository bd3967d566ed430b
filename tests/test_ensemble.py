import copy

import pytest
import torch
from torch.nn import functional as F

from kdig.core.ensemble import Ensemble
from kdig.core.networks import student
from kdig.core.training import Recipe, make_optimizer


def untrained(level, seeds):
    nets = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        nets.append(student(level, 10, 0.25))
    return nets


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 6, 3, 8, 8, generator=generator), torch.randint(
        10, (4, 3, 6), generator=generator
    )


@pytest.mark.parametrize("level", [2, 8])
def test_side_by_side_is_each_alone(level, batches):
    nets = [net.eval() for net in untrained(level, 3)]
    together = Ensemble(nets).eval()(batches[0][0])
    for seed, net in enumerate(nets):
        torch.testing.assert_close(together[seed], net(batches[0][0, seed]), rtol=1e-4, atol=1e-5)


def test_one_seeds_pictures_do_not_reach_anothers_logits(batches):
    ensemble, images = Ensemble(untrained(8, 3)), batches[0][0].requires_grad_()
    (gradient,) = torch.autograd.grad(ensemble(images)[1].square().sum(), images)
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_training_together_gives_each_seeds_own_weights_and_statistics(optimizer, batches):
    recipe = Recipe(optimizer=optimizer, learning_rate=1e-3, weight_decay=1e-4)
    apart = [net.double() for net in untrained(8, 3)]
    together = [copy.deepcopy(net) for net in apart]
    ensemble = Ensemble(together).double()
    images, labels = batches[0].double(), batches[1]
    step_together = make_optimizer(ensemble, recipe)
    for x, y in zip(images, labels):
        losses = (
            F.cross_entropy(ensemble(x).flatten(0, 1), y.flatten(), reduction="none")
            .view(3, -1)
            .mean(1)
        )
        step_together.zero_grad()
        losses.sum().backward()
        step_together.step()
    ensemble.split(together)
    for seed, (net, other) in enumerate(zip(apart, together)):
        optimizer_alone = make_optimizer(net, recipe)
        for x, y in zip(images[:, seed], labels[:, seed]):
            optimizer_alone.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer_alone.step()
        for (name, alone), shared in zip(net.state_dict().items(), other.state_dict().values()):
            torch.testing.assert_close(
                shared, alone, rtol=1e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
            )
