"""The exported gradient is autograd's."""

import pytest
import torch
from torch import nn

from kdig import exported
from kdig.attribution import autograd_gradient
from kdig.models import build
from kdig.signals import SignalSpec, Teacher


@pytest.fixture
def given():
    """A network whose batch norm has seen pictures, pictures and classes."""
    torch.manual_seed(0)
    net = build(0, 10, 0.25)
    with torch.no_grad():
        for _ in range(10):
            net(torch.rand(16, 3, 8, 8))
    return net.eval(), torch.rand(5, 3, 8, 8), torch.arange(5)


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("output", ["logit", "softmax"])
@pytest.mark.parametrize("architecture", ["paper", "resnet20"])
def test_the_graph_is_the_gradient_in_float64(given, output, architecture):
    net, x, y = given
    net = net if architecture == "paper" else build(0, 10, 0.25, architecture).eval()
    model = Teacher(net.double(), [0.5] * 3, [0.25] * 3).folded
    weights = nn.functional.one_hot(y, 10).double()
    graph = exported.gradient_graph(model, output, x.double(), weights)
    assert not any("backward" in str(node.target) for node in graph.graph.nodes)
    assert relative(graph(x.double(), weights), autograd_gradient(model, output)(x.double(), y)) < 1e-12


def test_openvino_runs_it_for_any_number_of_rows(given):
    pytest.importorskip("openvino")
    net, x, y = given
    teacher = Teacher(net, [0.5] * 3, [0.25] * 3)
    gradient = exported.exported_gradient(teacher.folded, "logit", 8, 10, rows=2)
    expected = autograd_gradient(teacher.folded, "logit")(x, y)
    assert relative(gradient(x, y), expected) < 1e-4
    assert relative(gradient(x[:1], y[:1]), expected[:1]) < 1e-4


def test_teacher_exports_where_it_pays_and_gives_the_same_maps(given, monkeypatch):
    pytest.importorskip("openvino")
    net, x, y = given
    spec = SignalSpec(teacher="t", data="d", image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3, steps=4)
    plain = Teacher(net, [0.5] * 3, [0.25] * 3)
    expected = plain.explain(x, y, spec)
    assert not plain._exported
    monkeypatch.setattr(exported, "_WORTHWHILE", 1)
    by_graph = Teacher(net, [0.5] * 3, [0.25] * 3)
    assert relative(by_graph.explain(x, y, spec), expected) < 1e-4
    assert by_graph._exported
    assert not exported.worthwhile(1_000, 32, "cuda")


def test_without_openvino_nothing_is_exported(monkeypatch):
    monkeypatch.setattr(exported, "find_spec", lambda name: None)
    assert not exported.worthwhile(1_000_000, 32, "cpu")
