"""The tables' evaluators: the networks against an oracle, loading, training, scores, folders.

The oracle computes a DRN-D from tensors under the authors' names, with its strides and dilations
written out here; nothing of ours is in it.
"""

import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from data_trees import plant
from PIL import Image
from torch import nn
from torch.nn import functional as F

from minilib import (
    evaluator_training,
    evaluators,
    labelled,
    notebooks,
    released,
    score_folders,
)
from minilib.__main__ import main as command
from minilib.config import ConfigError
from minilib.data import DataError, DataMissing
from minilib.drn import BLOCKS, drn_d
from minilib.evaluators import Evaluator, load, scores

PUBLISHED = {22: 16.4, 38: 26.5, 54: 35.8, 105: 54.8}  # millions, ImageNet's 1000 classes
STRIDES, GAPS = (1, 1, 2, 2, 2, 1, 1, 1, 1), (1, 1, 1, 1, 1, 2, 4, 2, 1)  # levels 0 to 8


@pytest.fixture(autouse=True)
def own_hub(monkeypatch):
    """No test leaves torch's hub or the environment changed."""
    before = torch.hub.get_dir()
    monkeypatch.delenv(evaluators.VARIABLE, raising=False)
    yield
    torch.hub.set_dir(before)


def normed(t, name, h):
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(h, *(t[f"{name}.{part}"] for part in names))


def oracle(t, x):
    """Scores (B, L, H, W) of a DRN-D."""
    h = x
    for level, (stride, gap) in enumerate(zip(STRIDES, GAPS, strict=True)):
        here = f"base.{level}"
        if f"{here}.0.conv1.weight" not in t:
            w = t[f"{here}.0.weight"]
            h = F.conv2d(h, w, stride=stride, padding=gap * (w.shape[-1] // 2), dilation=gap)
            h = normed(t, f"{here}.1", h).relu()
            continue
        block = 0
        while f"{here}.{block}.conv1.weight" in t:
            h = block_oracle(t, f"{here}.{block}", h, 1 if block else stride, gap)
            block += 1
    h = F.conv2d(h, t["seg.weight"], t["seg.bias"])
    return F.conv_transpose2d(h, t["up.weight"], stride=8, padding=4, groups=len(t["up.weight"]))


def block_oracle(t, here, x, stride, gap):
    h, first, k = x, True, 1
    while f"{here}.conv{k}.weight" in t:
        w = t[f"{here}.conv{k}.weight"]
        if w.shape[-1] == 3:
            step, first = stride if first else 1, False
            h = F.conv2d(h, w, stride=step, padding=gap, dilation=gap)
        else:
            h = F.conv2d(h, w)
        h = normed(t, f"{here}.bn{k}", h)
        k += 1
        h = h.relu() if f"{here}.conv{k}.weight" in t else h
    if f"{here}.downsample.0.weight" in t:
        x = normed(
            t, f"{here}.downsample.1", F.conv2d(x, t[f"{here}.downsample.0.weight"], None, stride)
        )
    return (h + x).relu()


def shaken(network, seed=0):
    """The network with every tensor away from its start, statistics too; ready to compare."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize("depth", [22, 54])
@torch.no_grad()
def test_drn_d_computes_what_the_authors_does(depth):
    network = shaken(drn_d(depth, 5).double())
    x = torch.rand(1, 3, 64, 40, generator=torch.Generator().manual_seed(1)).double()
    y = network(x)
    assert y.shape == (1, 5, 64, 40)
    assert y.std() > 1e-3
    torch.testing.assert_close(y, oracle(network.state_dict(), x), rtol=1e-9, atol=1e-9)
    conv = network.base[6][0].conv2  # a fault: one dilation of level 6 halved
    conv.dilation = conv.padding = (2, 2)
    assert not torch.allclose(network(x), oracle(network.state_dict(), x), atol=1e-4)


@pytest.mark.parametrize("depth", BLOCKS)
def test_drn_d_has_the_published_number_of_weights_and_names(depth):
    network = drn_d(depth, 1000)
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert round(learned / 1e6, 1) == PUBLISHED[depth]
    names = set(network.state_dict())
    assert {"base.0.0.weight", "base.8.1.running_var", "seg.bias", "up.weight"} <= names
    shape = r"base\.([0-278]\.[01]|[3-6]\.\d+\.(conv[123]|bn[123]|downsample\.[01]))\.\w+"
    assert all(re.fullmatch(shape, n) for n in names - {"seg.weight", "seg.bias", "up.weight"})


def test_drn_d_22_counts_its_weights_by_its_table():
    def plain(a, b, side=3):
        return a * b * side**2 + 2 * b

    def level(a, b):  # two blocks, the first with a shortcut of 1 x 1
        return plain(a, b) + plain(b, b) + plain(a, b, 1) + 2 * plain(b, b)

    levels = level(32, 64) + level(64, 128) + level(128, 256) + level(256, 512)
    ends = plain(3, 16, 7) + plain(16, 16) + plain(16, 32) + 2 * plain(512, 512)
    learned = [p for p in drn_d(22, 19).parameters() if p.requires_grad]
    assert sum(p.numel() for p in learned) == levels + ends + 19 * 513


@torch.no_grad()
def test_drn_d_is_an_eighth_inside_and_its_enlargement_keeps_constants():
    network = drn_d(22, 3).eval()
    assert network.base(torch.zeros(1, 3, 64, 128)).shape == (1, 512, 8, 16)
    flat = network.up(torch.ones(1, 3, 6, 6))
    torch.testing.assert_close(flat[..., 8:-8, 8:-8], torch.ones(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="unknown depth of a DRN-D '220': did you mean '22'"):
        drn_d(220, 3)


def test_released_checkpoints_load_exactly_or_not_at_all(tmp_path):
    source = shaken(drn_d(22, 4), seed=3)
    tensors = source.state_dict()
    wrapped = {f"module.{k}": v for k, v in tensors.items() if not k.endswith("batches_tracked")}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "city.pth")
    judge = load("drn-d-22", 4, tmp_path / "city.pth")
    assert all(torch.equal(judge.network.state_dict()[k], v) for k, v in tensors.items())

    with pytest.raises(released.ReleasedError, match=r"other shapes \(3\): seg\.weight 4x512x1x1"):
        load("drn-d-22", 5, tmp_path / "city.pth")
    odd = {k: v for k, v in tensors.items() if k != "seg.bias"} | {"extra": torch.zeros(1)}
    torch.save(odd, tmp_path / "odd.pth")
    with pytest.raises(released.ReleasedError) as caught:
        load("drn-d-22", 4, tmp_path / "odd.pth")
    assert caught.value.missing == ["seg.bias"]
    assert caught.value.left_over == ["extra"]
    assert "missing (1): seg.bias; left over (1): extra" in str(caught.value)
    with pytest.raises(released.ReleasedError, match=r"and [0-9]+ more") as caught:
        load("drn-d-38", 4, tmp_path / "city.pth")
    assert "\n" not in str(caught.value)
    (tmp_path / "broken.pth").write_text("no tensors")
    with pytest.raises(released.ReleasedError, match=r"'broken\.pth' is not a checkpoint"):
        load("drn-d-22", 4, tmp_path / "broken.pth")


def test_imagenet_weights_fill_all_but_the_scores(tmp_path):
    source = shaken(drn_d(22, 7), seed=4)
    theirs = {re.sub(r"^base\.", "layer", k): v for k, v in source.state_dict().items()}
    theirs = {k: v for k, v in theirs.items() if k.startswith("layer")}
    torch.save(
        theirs | {"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, tmp_path / "i.pth"
    )
    network = drn_d(22, 5)
    head = network.seg.weight.clone()
    evaluator_training.start_from_imagenet(network, tmp_path / "i.pth")
    assert torch.equal(network.base[5][1].conv2.weight, source.base[5][1].conv2.weight)
    assert torch.equal(network.seg.weight, head)
    with pytest.raises(released.ReleasedError, match="do not fit this DRN-D"):
        evaluator_training.start_from_imagenet(drn_d(38, 5), tmp_path / "i.pth")


def test_the_folder_of_weights_is_given_by_argument_or_variable(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "here.pth")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({}, tmp_path / "hub" / "checkpoints" / "deeper.pth")
    monkeypatch.setenv(evaluators.VARIABLE, str(tmp_path))
    assert evaluators.find_weights("here.pth") == tmp_path / "here.pth"
    deeper = evaluators.find_weights("deeper.pth")
    assert deeper == tmp_path / "hub" / "checkpoints" / "deeper.pth"
    assert Path(torch.hub.get_dir()) == tmp_path.resolve() / "hub"
    with pytest.raises(ConfigError, match=r"no weights 'gone\.pth'.*MINILIB_WEIGHTS"):
        evaluators.find_weights("gone.pth")
    with pytest.raises(ConfigError, match="no folder of weights"):
        evaluators.weights_folder(tmp_path / "nowhere")


def test_a_run_keeps_torchs_downloads_in_the_folder_of_weights(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        notebooks, "run", lambda *_: seen.append(os.environ["TORCH_HOME"]) or tmp_path
    )
    monkeypatch.setenv(evaluators.VARIABLE, str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", "/elsewhere")
    assert command(["run", "cinn"]) == 0
    monkeypatch.setenv(evaluators.VARIABLE, str(tmp_path / "gone"))
    assert command(["run", "cinn"]) == 2
    assert "no folder of weights" in capsys.readouterr().err
    assert seen == [str(tmp_path.resolve())]


def test_deeplab_drops_the_head_that_only_training_uses(tmp_path):
    judge = load("deeplab", 3)
    tensors = judge.network.state_dict() | {"aux_classifier.4.bias": torch.zeros(3)}
    tensors["classifier.4.bias"] = torch.tensor([1.0, 2.0, 3.0])
    torch.save(tensors, tmp_path / "d.pth")
    again = load("deeplab", 3, tmp_path / "d.pth")
    assert again.network.classifier[4].bias.tolist() == [1, 2, 3]
    with torch.no_grad():
        assert again(torch.zeros(1, 3, 33, 40)).shape == (1, 3, 33, 40)


def test_upernet_says_what_is_missing_and_fills_up_to_its_multiple(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ConfigError, match=r"segmentation-models-pytorch.*no mIoU on ADE20K") as e:
        load("upernet", 150)
    assert "\n" not in str(e.value)

    def build(encoder, encoder_weights, classes):
        assert (encoder, encoder_weights) == ("resnet101", None)
        return Sides(classes)

    library = types.SimpleNamespace(UPerNet=build)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", library)
    judge = load("upernet", 7)
    assert judge(torch.zeros(2, 3, 33, 64)).shape == (2, 7, 33, 64)
    assert judge.network.seen == (64, 64)


class Sides(nn.Module):
    """Remembers the size that it saw."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        self.seen = tuple(x.shape[-2:])
        return x[:, :1].expand(-1, self.classes, -1, -1)


class Bands(nn.Module):
    """Sees class 0, 1 or 2 by how bright the red is: below -1/3, between, above 1/3."""

    def forward(self, x):
        red = x[:, 0]
        return torch.stack([-red - 1 / 3, torch.zeros_like(red), red - 1 / 3], dim=1)


def bands() -> Evaluator:
    return Evaluator("fcn8s", Bands(), 3)  # its pictures stay in [-1, 1]


def painted(labels):
    """Images in which ``bands`` sees these labels: (N, H, W) -> (N, 3, H, W)."""
    return (labels - 1.0)[:, None].repeat(1, 3, 1, 1)


def test_pictures_are_normalised_as_the_weights_want_them():
    judge = load("drn-d-22", 3)
    judge.network = nn.Identity()
    mean, deviation = (torch.tensor(n) for n in evaluators.CITYSCAPES)
    picture = (2 * mean - 1)[None, :, None, None].expand(1, 3, 8, 8)
    assert judge(picture).abs().max() < 1e-5
    white = judge(torch.ones(1, 3, 8, 8))[0, :, 0, 0]
    torch.testing.assert_close(white, (1 - mean) / deviation)


def test_scores_are_those_computed_by_hand_and_unknown_pixels_do_not_count():
    labels = torch.tensor([[[0, 0, 1, 1], [2, 2, 2, 255]]])
    seen = torch.tensor([[[0, 1, 1, 1], [2, 1, 0, 0]]])
    found = scores(bands(), painted(seen), labels)
    assert found["pixel_accuracy"] == pytest.approx(4 / 7)  # 4 / 8 if 255 counted
    assert found["class_accuracy"] == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert found["miou"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)


def test_what_is_seen_is_resized_to_the_labels_by_the_nearest_pixel():
    labels = torch.tensor([[[0, 2], [1, 0]]]).repeat(3, 1, 1)
    big = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    for images, truth in ((labels, big), (big, labels)):
        assert scores(bands(), painted(images), truth, batch=2)["pixel_accuracy"] == 1.0
    assert scores(bands(), painted(labels), 2 - big)["pixel_accuracy"] < 0.5


def test_labels_and_shapes_that_cannot_be_scored_are_one_line():
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ConfigError, match="label 3 where the evaluator has 3 classes"):
        scores(bands(), x, torch.full((1, 4, 4), 3))
    with pytest.raises(ConfigError, match="label -2"):
        scores(bands(), x, torch.full((1, 4, 4), -2))
    with pytest.raises(ConfigError, match="no pixel was counted"):
        scores(bands(), x, torch.full((1, 4, 4), 255))
    with pytest.raises(ConfigError, match=r"not \(1, 3, 4, 4\) and \(2, 4, 4\)"):
        scores(bands(), x, torch.zeros(2, 4, 4).long())


def test_cityscapes_numbers_become_the_19_classes():
    ids = torch.tensor([0, 7, 8, 9, 11, 28, 29, 30, 31, 32, 33, 34, 255])
    assert score_folders.to_train_ids(ids).tolist() == [
        255, 0, 1, 255, 2, 15, 255, 255, 16, 17, 18, 255, 255,
    ]  # fmt: skip
    assert score_folders.to_train_ids(torch.arange(256)).lt(255).sum() == 19
    ade = score_folders.LABEL_IDS["ade20k"](torch.tensor([0, 1, 150]))
    assert ade.tolist() == [255, 0, 149]


@pytest.fixture
def city(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path / "data"))
    plant(tmp_path / "data", "cityscapes")
    return tmp_path / "data" / "cityscapes"


def trained(folder, steps, resume=False, seed=0):
    torch.manual_seed(9 if resume else 5)
    judge = load("drn-d-22", 19)
    photos = labelled.LabelledPhotos(labelled.find("cityscapes"), (16, 32))
    batches = evaluator_training.cityscapes_batches(photos, 3, seed)
    options = {"drop_every": 1, "seed": seed, "resume": resume}
    fitted = evaluator_training.train(judge, batches, steps, folder, **options)
    return judge, fitted


def test_training_learns_resumes_to_the_bit_and_leaves_weights_that_load(city, tmp_path):
    whole, fitted = trained(tmp_path / "a", 2)
    assert len(fitted.history["cross_entropy"]) == 2
    trained(tmp_path / "b", 1)
    resumed, _ = trained(tmp_path / "b", 2, resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    loaded = load("drn-d-22", 19, tmp_path / "a" / "weights.pt")
    torch.manual_seed(5)
    start = drn_d(22, 19).state_dict()
    now = loaded.network.state_dict()
    assert torch.equal(now["up.weight"], start["up.weight"])  # not learned
    still = [k for k in start if k != "up.weight" and torch.equal(now[k], start[k])]
    assert not still
    checkpoint = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)["state"]
    (group,) = checkpoint["optimizers.network"]["param_groups"]
    assert (group["initial_lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.99, 1e-4)
    assert group["lr"] == pytest.approx(0.001)  # a tenth after ``drop_every`` steps


def test_unknown_pixels_do_not_teach():
    judge, seen = bands(), torch.zeros(1, 2, 2).long()
    judge.network.extra = nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD(judge.parameters(), lr=0.0)
    some = seen.clone()
    some[0, 0, 0] = 255
    x = painted(seen)
    x[0, :, 0, 0] = 1.0  # looks like class 2: a large loss, where it counts
    x.requires_grad_()
    losses = [
        evaluator_training.make_step(judge, sgd, lambda _, y=y: (x, y))(0)["cross_entropy"]
        for y in (seen, some)
    ]
    assert losses[0] > losses[1] + 0.1


def test_the_training_command_refuses_in_one_line(city, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "run")
    line = ["--batch", "3", "--epochs", "1", "--size", "16x32", "--device", "cpu"]
    for extra, message in (
        ([], "no weights 'drn_d_22-4bd2f8ea.pth'"),
        (["--start", "none", "--evaluator", "drn22"], "unknown evaluator 'drn22'"),
        (["--start", "none", "--batch", "4"], "a batch of 4 does not fit a data set of 3"),
        (["--start", "none", "--size", "16"], "wanted HEIGHTxWIDTH"),
    ):
        assert evaluator_training.main([out, *line, *extra]) == 2
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1]
    assert evaluator_training.main([out, *line, "--start", "none"]) == 0
    assert (tmp_path / "run" / "weights.pt").is_file()
    assert evaluator_training.main([out, *line, "--start", "none"]) == 2
    assert "already holds a training" in capsys.readouterr().err


def save(labels, folder, names, colour):
    """Label maps, or the images in which ``bands`` sees them."""
    folder.mkdir(parents=True, exist_ok=True)
    if colour:
        score_folders.write_images(painted(labels), folder, names)
        return
    for name, one in zip(names, labels, strict=True):
        Image.fromarray(one.numpy().astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two images, and label maps in which an eighth of one is another class."""
    labels = torch.zeros(2, 16, 32).long()
    labels[:, :, 16:] = 2
    labels[:, :4, :16] = 1
    save(labels, tmp_path / "images", ["a", "b"], colour=True)
    labels[0, :8, :16] = 1
    labels[1, 0, :] = 255
    save(labels, tmp_path / "labels", ["a", "b"], colour=False)
    monkeypatch.setattr(score_folders.evaluators, "load", lambda *_: bands())
    return tmp_path


def test_folders_are_paired_by_name_and_scored(folders, capsys):
    where = (folders / "images", folders / "labels")
    found = score_folders.score_folder(bands(), *where)
    right = 2 * 16 * 32 - 4 * 16 - 32
    assert found["pixel_accuracy"] == pytest.approx(right / (right + 4 * 16))
    halved = score_folders.score_folder(bands(), *where, size=(8, 16), batch=1)
    assert halved["pixel_accuracy"] == pytest.approx(found["pixel_accuracy"], abs=0.05)
    line = [*map(str, where), "--weights", "w", "--classes", "3", "--device", "cpu"]
    assert score_folders.main(line) == 0
    out = capsys.readouterr().out
    assert f"pixel_accuracy  {found['pixel_accuracy']:.4f}" in out
    assert "difference  drn-d-22: the thesis's weights are not released" in out


def test_folders_that_do_not_fit_are_one_line(folders, capsys):
    images, labels = folders / "images", folders / "labels"
    (folders / "empty").mkdir()
    save(torch.zeros(1, 32, 64), folders / "large", ["a", "b"][:1], colour=False)
    save(torch.full((2, 16, 32), 26), folders / "numbers", ["a", "b"], colour=False)
    for line, message in (
        ([folders / "gone", labels], "no folder"),
        ([images, folders / "empty"], "no images '*' in"),
        ([images, folders / "large"], "no label map for 'b.png'"),
        ([folders / "large", labels], "no image for 'b.png'"),
        ([images, folders / "numbers"], "label 26 where the evaluator has 3 classes"),
        ([images, labels, "--size", "16"], "wanted HEIGHTxWIDTH"),
        ([images, labels, "--size", "32x16"], "did you mean 16x32?"),
        ([images, labels, "--label-ids", "city"], "unknown numbering of labels 'city'"),
        ([images, labels, "--device", "gpu"], "unknown device 'gpu'"),
        ([images, labels, "--endings", "_x.png", "_y.png"], "no images '*_x.png'"),
        ([images], "nothing to measure"),
    ):
        assert score_folders.main([*map(str, line), "--weights", "w"]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("minilib: ")
        assert message in error
    assert score_folders.main([str(images), str(labels)]) == 2
    assert "no --weights for drn-d-22" in capsys.readouterr().err
    save(torch.zeros(2, 32, 64), folders / "twice", ["a", "b"], colour=False)
    with pytest.raises(DataError, match=r"a\.png is 16x32 and a\.png 32x64.*--size"):
        score_folders.score_folder(bands(), images, folders / "twice")


def test_names_may_end_in_their_own_way_at_any_depth(city):
    endings = ("_leftImg8bit.png", "_gtFine_labelIds.png")
    files = score_folders.pairs(city / "leftImg8bit" / "val", city / "gtFine" / "val", endings)
    assert len(files) == 3
    assert all(p.name.split("_left")[0] == m.name.split("_gtFine")[0] for p, m in files)
    with pytest.raises(DataError, match="--endings"):
        score_folders.pairs(city / "leftImg8bit" / "val", city / "gtFine" / "val")


def colours(images):
    """Stands for Inception: mean and deviation of each channel."""
    assert images.dtype == torch.uint8
    x = images.float().flatten(2) / 255
    return (torch.cat([x.mean(2), x.std(2)], dim=1),)


def test_fid_and_kid_are_zero_for_the_same_and_grow_with_the_difference(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 3, 8, 8, generator=generator) * 2 - 1
    names = [f"{i:02d}" for i in range(12)]
    score_folders.write_images(images, tmp_path / "a", names)
    score_folders.write_images(images[:6], tmp_path / "b", names[:6])
    score_folders.write_images(0.5 * images[6:], tmp_path / "b", names[6:])
    score_folders.write_images(images[:, :, :4], tmp_path / "c", names)  # another size
    same = score_folders.distances(colours, tmp_path / "a", tmp_path / "a")
    other = score_folders.distances(colours, tmp_path / "b", tmp_path / "a")
    assert same["fid"] == pytest.approx(0, abs=1e-6)
    assert other["fid"] > 1e-3
    assert other["kid"] > same["kid"]
    (tmp_path / "c" / "zz.png").write_bytes((tmp_path / "a" / "00.png").read_bytes())
    assert score_folders.features(colours, tmp_path / "c", batch=5).shape == (13, 6)
    save(torch.zeros(1, 8, 8), tmp_path / "one", ["a"], colour=True)
    with pytest.raises(ConfigError, match="1 pictures are too few"):
        score_folders.distances(colours, tmp_path / "one", tmp_path / "a")
    with pytest.raises(DataMissing, match="no folder"):
        score_folders.distances(colours, tmp_path / "gone", tmp_path / "a")


def test_without_inception_one_line_says_so_and_the_rest_is_computed(folders, capsys, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as library

    def refused(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(library, "FeatureExtractorInceptionV3", refused)
    images, labels = str(folders / "images"), str(folders / "labels")
    assert score_folders.main([images, labels, "--against", images, "--weights", "w"]) == 0
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "no FID and no KID: Inception's weights cannot be had (no route to host)" in line
    assert "weights-inception-2015-12-05-6726825d.pth" in line
    assert "miou" in said.out
    assert "fid" not in said.out
    assert score_folders.main([images, "--against", images]) == 2
    monkeypatch.setattr(score_folders, "inception", lambda _: colours)
    assert score_folders.main([images, "--against", images]) == 0
    assert "pytorch-fid" in capsys.readouterr().out


def test_images_are_written_as_they_are_read_back(tmp_path):
    y = torch.tensor([-1.0, 0.002, 1.0, 7.0])[None, None, None].expand(1, 3, 1, 4)
    score_folders.write_images(y, tmp_path, ["x"])
    assert np.asarray(Image.open(tmp_path / "x.png"))[0, :, 0].tolist() == [0, 128, 255, 255]
    with pytest.raises(ConfigError, match="1 images want as many names"):
        score_folders.write_images(y, tmp_path, ["a", "b"])


def test_every_evaluator_names_its_table_and_its_difference():
    for name, kind in evaluators.EVALUATORS.items():
        assert kind.tables, name
        assert kind.difference, name
    with pytest.raises(ConfigError, match="unknown evaluator 'deeplap': did you mean 'deeplab'"):
        load("deeplap", 3)
    with pytest.raises(ConfigError, match="at least 2 classes"):
        load("drn-d-22", 1)
