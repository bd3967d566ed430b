import copy

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, GradientShap, LayerGradCam, NoiseTunnel, Saliency
from captum.attr._utils.approximation_methods import (
    approximation_parameters,  # the reference; no part of the package
)
from torch import nn

from kdig import KdigError
from kdig.core.attribution import (
    ATTRIBUTIONS,
    _draws_of,
    attribute,
    attribution_map,
    baseline_point,
    captum_gradients,
    completeness_delta,
    integrated_gradients,
    path_sum,
    quadrature,
)
from kdig.core.networks import build, with_normalisation
from kdig.core.runs import execute
from kdig.core.signals import Teacher

RULES = ["gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A level-6 student trained for a few epochs on digits, twenty test pictures, and their labels."""
    from kdig.core.data import load_dataset
    from kdig.core.run import Run
    from kdig.core.store import Workspace
    from kdig.core.training import Recipe

    data = load_dataset("digits", image_size=8)
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    recipe = Recipe(epochs=4, learning_rate=5e-3, normalise=True, bn_momentum=0.3)
    run = Run(
        dataset="digits",
        data=data.fingerprint,
        image_size=8,
        network="s6",
        width=0.5,
        padding=1,
        flip=False,
        recipe=recipe,
    )
    result = execute([run], workspace)[0]
    assert result.last.test_accuracy > 60
    teacher = workspace.load_weights(result.weights)
    return teacher, data.test.images[:20] / 255, data.test.labels[:20]


@pytest.mark.parametrize("rule", RULES)
def test_quadrature_is_captums(rule):
    captums = approximation_parameters(rule)
    for steps in (2, 7, 20, 50, 255):
        for ours, theirs in zip(quadrature(rule, steps), captums):
            # Captum's Riemann rules are made in float32
            assert ours == pytest.approx(np.array(theirs(steps)), abs=1e-7)


def test_trapezoid_of_one_step_is_refused():
    with pytest.raises(ValueError, match="two steps"):
        quadrature("riemann_trapezoid", 1)


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("output", ["logit", "softmax"])
@pytest.mark.parametrize("rule", RULES)
def test_agrees_with_captum_in_double_precision(trained, rule, output):
    teacher, x, y = trained
    model = copy.deepcopy(teacher.model).double()
    point = baseline_point("black", teacher.mean, x.double())
    ours = integrated_gradients(
        model, x.double(), y, point, steps=10, rule=rule, output=output, chunk=33
    )
    captum = captum_gradients(model, x.double(), y, point, steps=10, rule=rule, output=output)
    assert relative(ours, captum) < 1e-6  # Captum keeps its step sizes in float32


def test_fast_path_agrees_with_captum(trained):
    """To 1e-3 only: where two paths differ by rounding, a point may lie on the other side of a kink
    of ReLU6.
    """
    teacher, x, y = trained
    point = baseline_point("mean", teacher.mean, x)
    fast = integrated_gradients(teacher.folded, x, y, point, steps=50)
    assert relative(fast, captum_gradients(teacher.model, x, y, point, steps=50)) < 1e-3


def test_folded_batch_norm_changes_no_attribution(trained):
    teacher, x, y = trained
    precise = Teacher(copy.deepcopy(teacher.net).double(), teacher.mean, teacher.std)
    point = baseline_point("mean", teacher.mean, x.double())
    fast, slow = (
        integrated_gradients(net, x.double(), y, point, steps=50)
        for net in (precise.folded, precise.model)
    )
    assert relative(fast, slow) < 1e-9


def test_does_not_depend_on_chunk_or_neighbours(trained):
    teacher, x, y = trained
    point = baseline_point("black", teacher.mean, x)
    whole = integrated_gradients(teacher.model, x, y, point, steps=10, chunk=96)
    assert (
        relative(integrated_gradients(teacher.model, x, y, point, steps=10, chunk=7), whole) < 1e-4
    )
    alone = torch.cat(
        [
            integrated_gradients(teacher.model, x[i : i + 1], y[i : i + 1], point, steps=10)
            for i in range(len(x))
        ]
    )
    assert relative(alone, whole) < 1e-4


@pytest.mark.parametrize("rule", ["gausslegendre", "riemann_middle"])
def test_linear_model_is_exact(rule):
    """For F(x) = w.x the attribution of pixel i is w_i (x_i - x'_i), with any number of steps."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4)).double().eval()
    x, y = torch.rand(5, 3, 4, 4, dtype=torch.double), torch.tensor([0, 1, 2, 3, 0])
    point = baseline_point("mean", (0.2, 0.4, 0.6), x)
    attributed = integrated_gradients(model, x, y, point, steps=3, rule=rule)
    weights = model[1].weight[y].view(5, 3, 4, 4)
    assert torch.allclose(attributed, (x - point) * weights, atol=1e-12)
    assert completeness_delta(model, x, y, attributed, point).abs().max() < 1e-9


def test_normalisation_inside_or_outside_the_path_is_the_same():
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 0.125)
    net = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)).double().eval()
    )
    x, y = torch.rand(3, 3, 4, 4, dtype=torch.double), torch.tensor([0, 1, 1])
    inside = integrated_gradients(
        with_normalisation(net, mean, std).eval(), x, y, baseline_point("mean", mean, x), steps=20
    )
    m, s = (torch.tensor(v, dtype=torch.double).view(1, 3, 1, 1) for v in (mean, std))
    outside = integrated_gradients(
        net, (x - m) / s, y, torch.zeros(1, 3, 1, 1, dtype=torch.double), steps=20
    )
    assert torch.allclose(inside, outside, atol=1e-12)


def test_completeness_improves_with_steps(trained):
    teacher, x, y = trained
    point = baseline_point("black", teacher.mean, x)
    medians = []
    for steps in (5, 200):
        attributed = integrated_gradients(teacher.folded, x, y, point, steps=steps)
        medians.append(
            completeness_delta(teacher.folded, x, y, attributed, point).abs().median().item()
        )
    assert medians[1] < 0.05
    assert medians[1] < medians[0] / 4


def test_training_mode_is_refused(trained):
    teacher, x, y = trained
    model = copy.deepcopy(teacher.model).train()
    with pytest.raises(ValueError, match="eval"):
        integrated_gradients(model, x, y, baseline_point("black", teacher.mean, x))


def test_folding_batch_norm_changes_nothing_but_rounding(trained):
    teacher, x, _ = trained
    assert isinstance(teacher, Teacher)
    assert torch.allclose(teacher.folded(x), teacher.model(x), atol=1e-4)


def test_map_sums_absolute_values_over_colours():
    a = torch.tensor([[[[1.0]], [[-2.0]], [[3.0]]]])
    assert attribution_map(a).tolist() == [[[6.0]]]


OTHERS = [name for name in ATTRIBUTIONS if name != "integrated_gradients"]


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_every_attribution_has_one_signature_and_depends_on_its_image_alone(trained, name):
    """One image gives the same in a batch and alone, whatever has been drawn before."""
    teacher, x, y = trained
    whole = attribute(teacher.model, x[:4], y[:4], name, steps=5)
    assert whole.shape == x[:4].shape
    torch.rand(7)
    np.random.rand(7)  # noqa: NPY002
    alone = attribute(teacher.model, x[2:3], y[2:3], name, steps=5)
    assert relative(alone, whole[2:3]) < 1e-4
    assert whole.abs().sum((1, 2, 3)).min() > 0


def test_attributions_are_captums(trained):
    teacher, x, y = trained
    model, x = copy.deepcopy(teacher.model).double(), x[:4].double()
    y = y[:4]
    gradient = Saliency(model).attribute(x, y, abs=False)
    assert torch.allclose(attribute(model, x, y, "saliency"), gradient)
    assert torch.allclose(attribute(model, x, y, "input_x_gradient"), gradient * x)
    softened = attribute(model, x, y, "saliency", output="softmax")
    assert torch.allclose(
        softened, Saliency(lambda z: model(z).softmax(1)).attribute(x, y, abs=False)
    )
    cam = LayerGradCam(model, model[1].features).attribute(x, y, relu_attributions=True)
    fine = torch.nn.functional.interpolate(cam, x.shape[2:], mode="bilinear")
    assert torch.allclose(attribution_map(attribute(model, x, y, "grad_cam")), fine[:, 0].abs())


def test_smooth_gradients_approach_the_gradient_and_expected_gradients_the_integral(trained):
    """Noise and random points average out: with a linear model at once."""
    weights = torch.randn(3 * 8 * 8, 10, generator=torch.Generator().manual_seed(0)).double()
    model = Linear(weights).eval()
    _, x, y = trained
    x, y = x[:3].double(), y[:3]
    exact = integrated_gradients(model, x, y, torch.zeros(1, 3, 1, 1).double(), steps=3)
    assert torch.allclose(attribute(model, x, y, "gradient_shap", steps=3), exact)
    plain = attribute(model, x, y, "saliency")
    assert torch.allclose(attribute(model, x, y, "smooth_grad", steps=3), plain)


class Linear(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, images):
        return images.flatten(1) @ self.weights


def test_unknown_attributions_and_missing_layers_are_named(trained):
    teacher, x, y = trained
    with pytest.raises(KdigError, match="unknown attribution 'gradcam': choose one of integrated"):
        attribute(teacher.model, x, y, "gradcam")
    with pytest.raises(KdigError, match="Grad-CAM needs a layer"):
        attribute(Linear(torch.rand(192, 10)), x, y, "grad_cam")


def test_a_path_of_one_rule_is_a_rule(trained):
    """Places and weights that each image has for itself, all those of one rule."""
    teacher, x, y = trained
    model, x = copy.deepcopy(teacher.model).double(), x.double()
    point = baseline_point("black", teacher.mean, x)
    weights, places = (torch.tensor(v).expand(len(x), 7) for v in quadrature("riemann_middle", 7))
    rule = integrated_gradients(model, x, y, point, steps=7, rule="riemann_middle")
    assert torch.allclose(path_sum(model, x, y, point, places, weights), rule)
    # one image's own places change that image alone
    own = places.clone()
    own[3] *= 0.5
    changed = (path_sum(model, x, y, point, own, weights) - rule).flatten(1).norm(dim=1) > 1e-9
    assert changed.nonzero().tolist() == [[3]]


def test_attributions_that_draw_are_captums(trained):
    """With the draws that belong to the image."""
    teacher, x, y = trained
    model, x, y = copy.deepcopy(teacher.model).double(), x[:2].double(), y[:2]
    zero = torch.zeros(1, 3, 1, 1).double()
    for i in range(2):
        image, target = x[i : i + 1], y[i : i + 1]
        with _draws_of(image):
            noisy = NoiseTunnel(Saliency(model)).attribute(
                image, nt_samples=5, stdevs=0.15, target=target, abs=False
            )
        assert torch.allclose(attribute(model, x, y, "smooth_grad", steps=5)[i], noisy[0])
        with _draws_of(image):
            expected = GradientShap(model).attribute(
                image, zero.expand_as(image), n_samples=5, target=target
            )
        assert torch.allclose(attribute(model, x, y, "gradient_shap", steps=5)[i], expected[0])


def test_deep_lift_is_captums_where_captum_can(trained):
    """A network whose rectifiers are plain, each used once, with the logit and the softmax."""
    _, x, y = trained
    layers = [nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 10)).double().eval()
    x, point = x.double(), torch.zeros(1, 3, 1, 1).double()
    ours = attribute(model, x, y, "deep_lift")
    assert torch.allclose(ours, DeepLift(model).attribute(x, point.expand_as(x), target=y))
    soft = nn.Sequential(model, nn.Softmax(1))
    # alone: of several images, Captum's depends on the neighbours
    black = torch.zeros_like(x[:1])
    theirs = [DeepLift(soft).attribute(x[[i]], black, target=y[[i]]) for i in range(len(x))]
    assert torch.allclose(attribute(model, x, y, "deep_lift", output="softmax"), torch.cat(theirs))
    assert not torch.allclose(ours, torch.cat(theirs))
    mixed = DeepLift(soft).attribute(x, point.expand_as(x), target=y)
    assert not torch.allclose(mixed, torch.cat(theirs))


@pytest.mark.parametrize("network", ["s6", "resnet8", "resnet50"])
def test_deep_lift_adds_up_where_captums_own_cannot(network):
    """Contributions add up to F(x) - F(x'): ReLU6, which Captum does not know, and a rectifier used
    in several places.
    """
    net = build(network, 10, 0.25).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # large activations, so that ReLU6 ends at 6
            module.weight.data.uniform_(1, 6)
    model = with_normalisation(net, (0.4,) * 3, (0.3,) * 3).eval()
    x, y = torch.rand(4, 3, 16, 16).double(), torch.tensor([0, 3, 5, 9])
    point = torch.zeros(1, 3, 1, 1).double()
    found = attribute(model, x, y, "deep_lift")
    assert completeness_delta(model, x, y, found, point).abs().max() < 1e-6
    theirs = DeepLift(copy.deepcopy(model))
    if network == "s6":
        plain = theirs.attribute(x, point.expand_as(x), target=y)
        assert completeness_delta(model, x, y, plain, point).abs().max() > 1e-3
    else:
        with pytest.raises(RuntimeError, match="used more than once"):
            theirs.attribute(x, point.expand_as(x), target=y)


def test_a_network_that_cannot_be_traced_is_named():
    class Branching(Linear):
        def forward(self, images):
            return super().forward(images) if images.sum() > 0 else images.flatten(1)[:, :10]

    model = Branching(torch.rand(192, 10)).eval()
    with pytest.raises(KdigError, match="DeepLIFT needs a network"):
        attribute(model, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), "deep_lift")


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_images_go_through_the_network_in_parts(name):
    """A backward pass of 250 images at once fills the memory of a laptop."""
    model = with_normalisation(build("s8", 10, 0.25), (0.4,) * 3, (0.3,) * 3).double().eval()
    x, y = torch.rand(250, 3, 8, 8).double(), torch.arange(250) % 10
    rows = []

    def count(module, given, _):
        if isinstance(module, nn.Conv2d):
            rows.append(len(given[0]))

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        found = attribute(model, x, y, name, steps=2)
    finally:
        hook.remove()
    assert name == "random_map" or max(rows) <= (16 if name == "deep_lift" else 96)
    assert torch.allclose(found[-1:], attribute(model, x[-1:], y[-1:], name, steps=2))


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_an_attribution_leaves_the_generators_as_they_were(trained, name):
    """A student whose dropout draws between two batches would else draw the same every time."""
    teacher, x, y = trained
    before = torch.get_rng_state(), np.random.get_state()[1:3]  # noqa: NPY002
    attribute(teacher.model, x[:2], y[:2], name, steps=3)
    after = torch.get_rng_state(), np.random.get_state()[1:3]  # noqa: NPY002
    assert torch.equal(after[0], before[0])
    assert after[1][0].tolist() == before[1][0].tolist()
    assert after[1][1] == before[1][1]


def test_a_random_map_knows_neither_network_nor_class(trained):
    teacher, x, y = trained
    found = attribute(teacher.model, x, y, "random_map")
    assert torch.equal(found, attribute(Linear(torch.rand(192, 10)), x, 0 * y, "random_map"))
    assert not torch.equal(found[0], found[1])
    assert 0.45 < found.mean() < 0.55


def test_a_setting_that_no_attribution_has_is_named():
    net = build("s8", classes=4).eval()
    images, targets = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    with pytest.raises(KdigError, match="no attribution has 'stepz': choose from baseline"):
        attribute(net, images, targets, stepz=3)
    attribute(net, images, targets, "saliency", steps=3)  # another one's
