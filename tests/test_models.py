import itertools
import os
import tarfile

import pytest
import torch
from conftest import SHARED
from scipy.stats import binom
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from kdig import KdigError
from kdig.core.data import load_dataset
from kdig.core.networks import (
    LEVELS,
    NETWORKS,
    AttentionTap,
    Normalise,
    build,
    count_layers,
    count_parameters,
    equal_width,
    fold_batch_norm,
    map_size,
    mobilenet_v2,
    output_features,
    state_hash,
    student,
    taps,
)
from kdig.core.store import Workspace
from kdig.core.training import accuracy, predict
from kdig.paper import published
from kdig.paper.released import load_released_checkpoint

RELEASED = sorted((SHARED / "weights").glob("*.pt"))


def test_teacher_has_the_papers_parameter_count():
    assert count_parameters(mobilenet_v2()) == 2_236_682


@pytest.mark.parametrize("level", LEVELS)
def test_students_are_those_of_table_s5(level):
    row = published("s5_architectures").iloc[level]
    net = student(level)
    assert count_parameters(net) == row.parameters_recomputed
    assert 2_236_682 / count_parameters(net) == pytest.approx(row.compression_factor, abs=0.006)
    assert count_layers(net) == row.total_layers
    assert output_features(net) == row.output_features
    assert LEVELS[level][1] == row.attention_source_feature_index
    assert net.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("level", LEVELS)
def test_attention_of_student_and_teacher_has_one_shape(level):
    shapes = []
    for net in (mobilenet_v2().eval(), student(level).eval()):
        with AttentionTap(net, f"features.{LEVELS[level][1]}") as tap:
            net(torch.zeros(1, 3, 32, 32))
        shapes.append(tap.output.shape)
    assert shapes[0] == shapes[1]


def test_tap_leaves_no_hook_behind():
    net = student(8)
    with AttentionTap(net, "features.0"):
        pass
    assert not net.features[0]._forward_hooks


def test_width_and_classes_are_arguments():
    net = student(2, num_classes=3, width=0.5)
    assert net.eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    assert count_parameters(net) < count_parameters(student(2)) / 2


def test_unknown_level_is_refused():
    with pytest.raises(KdigError, match="levels 1 to 8"):
        student(9)


def test_hash_sees_every_parameter_and_buffer():
    net = student(8)
    seen = {state_hash(net)}
    assert state_hash(net) in seen
    for value in net.state_dict().values():
        value.view(-1)[-1] += 1
        seen.add(state_hash(net))
    assert len(seen) == 1 + len(net.state_dict())


@pytest.mark.parametrize("split_layout", [False, True])
def test_both_released_layouts_load_strictly(tmp_path, split_layout):
    net = student(2)
    state = net.state_dict()
    if split_layout:  # ModifiedStudent: front_layers 0-8, middle_layer, end_layers 0-3

        def rename(name):
            kind, index, *rest = name.split(".")
            if kind != "features":
                return name
            i = int(index)
            head = (
                f"front_layers.{i}"
                if i < 9
                else "middle_layer"
                if i == 9
                else f"end_layers.{i - 10}"
            )
            return ".".join([head, *rest])

        state = {rename(name): value for name, value in state.items()}
    torch.save(state, tmp_path / "a.pt")
    assert state_hash(load_released_checkpoint(tmp_path / "a.pt")) == state_hash(net)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"student.{name}": value for name, value in state.items()},
        lambda state: {
            "module.teacher.x": torch.ones(2),
            **{f"module.student.{name}": value for name, value in state.items()},
        },
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {
            "acc": 91.0,
            "model": {f"module.{name}": value for name, value in state.items()},
        },
    ],
    ids=["module", "student", "teacher beside it", "state_dict", "model"],
)
def test_students_in_the_usual_wrappings_load(tmp_path, wrapped):
    net = student(3)
    torch.save(wrapped(net.state_dict()), tmp_path / "a.pt")
    assert state_hash(load_released_checkpoint(tmp_path / "a.pt")) == state_hash(net)


def refusal(path):
    with pytest.raises(KdigError, match="not one of the paper's released students") as error:
        load_released_checkpoint(path)
    text = str(error.value)
    assert "\n" not in text
    assert "weights_only" not in text
    assert path.name in text
    return text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no whole file of torch's"),
        (b"no checkpoint", "no whole file of torch's"),
        (b"<!DOCTYPE html><html>", "no whole file of torch's"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        (None, "no such file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "a.pt").write_bytes(content)
    assert said in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "it holds a Tensor"),
        ({}, "a dictionary of nothing"),
        ({"epoch": 3, "best": 91.0}, "a dictionary of epoch, best"),
        ({"state_dict": {}}, "a dictionary of nothing"),
        (build("resnet20").state_dict(), "a network of 10 blocks with the first weight 'features.0.0.weight'"),
        ({"conv1.weight": torch.zeros(3)}, "the first weight 'conv1.weight'"),
        (mobilenet_v2().state_dict(), "a network of 19 blocks"),
        (student(2, width=0.5).state_dict(), "weight is [16, 3, 3, 3], in the student of level 2 it is [32, 3, 3, 3]"),
        ({**student(2).state_dict(), "extra": torch.zeros(1)}, "its extra is [1], in the student of level 2 it is missing"),
        (student(2), "it holds Python objects"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_other_networks_are_refused_with_what_was_found(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pt")
    assert said in refusal(tmp_path / "a.pt")


def test_a_network_that_kdig_trained_is_named_as_such(tmp_path):
    weights = Workspace(tmp_path).keep(student(2), [0.0] * 3, [1.0] * 3, "s2")
    assert "kdig itself has trained this network" in refusal(tmp_path / "weights" / f"{weights}.pt")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Thirty test images of each class."""
    root = tmp_path_factory.mktemp("sample")
    with tarfile.open(SHARED / "data" / "cifar10-test.tar.gz") as tar:
        names = sorted(name for name in tar.getnames() if name.endswith(".png"))
        chosen = [
            name
            for _, group in itertools.groupby(names, key=os.path.dirname)
            for name in list(group)[:30]
        ]
        tar.extractall(root, [tar.getmember(name) for name in chosen], filter="data")
    (root / "cifar10" / "train").symlink_to(
        root / "cifar10" / "test"
    )  # only the test images are needed
    return load_dataset("cifar10", root).test


@pytest.mark.skipif(not RELEASED, reason="the released checkpoints are not on this machine")
@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_released_students_score_what_their_authors_recorded(path, sample):
    """On 300 images: within the range of the right answers that the recorded accuracy gives all but
    once in 10,000 times.
    """
    assert len(sample) == 300
    net = load_released_checkpoint(path).to(memory_format=torch.channels_last)
    right = round(accuracy(predict(net, sample), sample.labels) * 3)
    low, high = binom.interval(0.9999, 300, float(path.stem.split("TestAcc")[1]) / 100)
    assert low <= right <= high


def test_resnet20_is_the_one_of_its_paper():
    """0.27 million parameters in 19 convolutions and a linear layer (He et al. 2016, Table 6), and
    two 1x1 shortcuts here.
    """
    net = build("resnet20")
    assert (count_parameters(net), count_layers(net)) == (272_474, 22)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert net.features(torch.rand(2, 3, 32, 32)).shape == (2, 64, 8, 8)


@pytest.mark.parametrize("rival", ["mobilenet_v2", "resnet20"])
def test_rivals_have_the_students_size(rival):
    wanted = count_parameters(student(2))
    width = equal_width(rival, wanted)
    assert (
        wanted <= count_parameters(build(rival, 10, width)) < 1.1 * wanted
    )  # channels come in eights
    assert count_parameters(build(rival, 10, width - 0.01)) < wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalises_as_torchvision_does_and_holds_no_state(dtype):
    mean, std = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
    layer, images = Normalise(mean, std), torch.rand(2, 3, 4, 4, dtype=dtype)
    assert torch.equal(layer(images), v2.functional.normalize(images, mean, std))
    assert not layer.state_dict()


@pytest.mark.parametrize(
    ("network", "parameters", "macs"),
    [
        ("mobilenet_v2", 2_236_682, None), ("s2", 543_498, None), ("resnet8", 78_042, 12.5e6),
        ("resnet20", 272_474, 40.8e6), ("resnet18", 11_173_962, 555.4e6), ("resnet34", 21_282_122, 1159.4e6),
        ("resnet50", 23_520_842, 1297.8e6), ("resnet101", 42_512_970, 2520.4e6), ("fusednet", 637_314, 67.8e6),
    ],
)  # fmt: skip
def test_networks_have_the_sizes_that_others_count(network, parameters, macs):
    """ResNet-8 is MLPerf Tiny's (78 thousand parameters, 12.5 million operations); the larger ones
    are the usual variants for CIFAR, whose sizes are widely published. FusedNet is ours.
    """
    with torch.device("meta"):
        net = build(network).eval()
        assert count_parameters(net) == parameters
        if macs:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                net(torch.empty(1, 3, 32, 32))
            assert counter.get_total_flops() / 2 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_answers_and_is_tapped_where_it_says(network):
    with torch.device("meta"), torch.no_grad():
        net = build(network, classes=7, width=0.5).eval()
        with AttentionTap(net, NETWORKS[network].tap) as tap:
            assert net(torch.empty(2, 3, 32, 32)).shape == (2, 7)
    assert tuple(tap.output.shape[2:]) == map_size(network, 32)
    if not network.startswith("s"):
        # a stem for images that are two or four times larger leaves the same map of them
        larger = int(network.partition("_stem")[2] or 1)
        assert map_size(network, 32 * larger) == (8, 8)


def test_fusednet_has_usual_convolutions_where_the_image_is_large_and_relus_alone():
    """No depthwise layer before the tap, where 8 x 8 positions are left."""
    net = build("fusednet").eval()
    before, after = (
        [m.groups for part in parts for m in part.modules() if isinstance(m, torch.nn.Conv2d)]
        for parts in (net.features[:7], net.features[7:])
    )
    assert set(before) == {1}
    assert max(after) > 1
    kinds = {type(m).__name__ for m in net.features.modules() if "LU" in type(m).__name__}
    assert kinds == {"ReLU", "ReLU6"}


@pytest.mark.parametrize("network", NETWORKS)
def test_batch_norms_in_their_convolutions_are_the_same_function(network):
    net = build(network, width=0.25)
    images = torch.rand(8, 3, 32, 32)
    net(images)  # running means and variances that are not 0 and 1
    net.eval()
    folded = fold_batch_norm(net)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), net(images), atol=1e-4, rtol=1e-4)


def test_students_and_teachers_of_one_family_are_tapped_in_one_place():
    assert taps("s4", "mobilenet_v2") == ("features.4", "features.4")
    assert taps("resnet18", "resnet34") == ("features.6", "features.13")
    assert taps("resnet8", "mobilenet_v2") == ("features.3", "features.9")


def test_unknown_networks_are_refused_with_what_there_is():
    with pytest.raises(
        KdigError, match="unknown network 'resnet19': choose one of mobilenet_v2, s1"
    ):
        build("resnet19")
