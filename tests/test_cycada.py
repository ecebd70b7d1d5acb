import dataclasses
import json
import os
from pathlib import Path

import faults
import numpy as np
import pytest
import torch
from data_trees import png16
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_jaccard_index,
)

from minilib import chapters, data, segmentation, training
from minilib.config import ConfigError, resolve

cycada = chapters.load("cycada")
TINY = dataclasses.replace(
    cycada.SMOKE, width=2, critic_width=2, scenes=12, held_out=8, task_width=2, task_steps=2,
    task_batch=4, batch=2, epoch_steps=1,
)  # fmt: skip
CPU = torch.device("cpu")


def close(found, expected, **tolerance):
    torch.testing.assert_close(
        torch.as_tensor(found).float(),
        torch.as_tensor(expected).float(),
        **({"rtol": 1e-5, "atol": 1e-6} | tolerance),
    )


def fitter(folder):
    """Stands in for ``run.train``."""

    def train(label, step, state, steps, *, seed=0):
        return training.fit(step, state, steps, folder=folder / label, seed=seed, identity=label)

    return train


# Networks


def test_full_networks_have_the_released_numbers_of_parameters():
    found = {d.task: d.parameters for d in chapters.describe("cycada", "full")}
    assert found["usps2mnist"]["task"] == found["mnist2usps"]["task"] == 431_080
    assert found["svhn2mnist"]["task"] == 3_133_962
    assert found["gta5"]["task"] == 134_353_017
    assert found["gta5_drn26"]["task"] == 20_623_331
    assert found["gta5"]["domain_critic"] == found["gta5_drn26"]["domain_critic"] == 142_082
    assert found["usps2mnist"]["domain_critic"] == 257_002
    for parameters in found.values():
        assert parameters["to_y"] == parameters["to_x"] == 11_378_179
        assert parameters["critic_y"] == parameters["critic_x"] == 2_764_737


LENET = {
    "conv_params.0": (20, 1, 5, 5), "conv_params.3": (50, 20, 5, 5),
    "fc_params": (500, 800), "classifier.2": (10, 500),
}  # fmt: skip


def test_released_lenets_would_load():
    shapes = {name: tuple(p.shape) for name, p in cycada.LeNet(10).state_dict().items()}
    expected = {f"{name}.weight": shape for name, shape in LENET.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in LENET.items()}
    assert shapes == expected


def test_the_segmentation_critic_has_its_layers_where_the_released_one_has_them():
    critic = cycada.domain_critic(19, (512, 256), True, 0.5)
    kinds = [type(layer).__name__ for layer in critic]
    assert kinds == ["Conv2d", "Dropout2d", "ReLU"] * 2 + ["Conv2d"]
    assert [tuple(critic[i].weight.shape) for i in (0, 3, 6)] == [
        (512, 19, 1, 1), (256, 512, 1, 1), (2, 256, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["lenet", "dtn"])
def test_classifiers_give_a_score_per_class(kind):
    net = cycada.task_network(kind, 10, 0)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_unknown_task_models_and_variants_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'small_fcn'"):
        cycada.task_network("smal_fcn", 3, 2)
    with pytest.raises(ConfigError, match="did you mean 'no_cycle'"):
        cycada.objective_of("nocycle", 1.0, 1.0)
    with pytest.raises(ConfigError, match="did you mean 'drn26'"):
        resolve(cycada.PRESETS, "full", "", {"task_net": "drn62"})


def test_fcn8s_keeps_the_size_and_its_levels_are_aligned(monkeypatch):
    """A spot in the picture is answered at the same place by each of the three branches."""
    monkeypatch.setattr(segmentation, "VGG16", ((1,), (1,), (256,), (512,), (512,)))
    monkeypatch.setattr(nn.Conv2d, "reset_parameters", lambda self: None)  # all are set below
    torch.manual_seed(0)
    net = segmentation.FCN8s(1)
    net.head = nn.Conv2d(512, 1, 7)  # the branch from a 32nd, without its 100 million weights
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)
    x = torch.zeros(1, 3, 96, 128)
    flat = net(x)
    assert flat.shape == (1, 1, 96, 128)
    x[:, :, 40:48, 72:80] = 1.0
    for branch in ("head", "score_pool3", "score_pool4"):
        kept = {n: getattr(net, n).weight for n in ("head", "score_pool3", "score_pool4")}
        with torch.no_grad():
            saved = {n: w.clone() for n, w in kept.items()}
            for name, weight in kept.items():
                weight.mul_(float(name == branch))
            found = net(x)[0, 0]
            for name, weight in kept.items():
                weight.copy_(saved[name])
        rows, cols = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
        centre = [(found * axis).sum() / found.sum() for axis in (rows, cols)]
        middle = (47.5, 63.5) if branch == "head" else (43.5, 75.5)
        slack = 16 if branch == "head" else 6
        assert abs(float(centre[0]) - middle[0]) < slack, branch
        assert abs(float(centre[1]) - middle[1]) < slack, branch


def test_drn_keeps_the_size_and_its_last_levels_are_an_eighth():
    net = segmentation.drn26(3)
    sizes = []
    for layer in net:
        if isinstance(layer, segmentation.DilatedBlock):
            layer.register_forward_hook(lambda m, i, o: sizes.append(o.shape[-1]))
    assert net(torch.zeros(1, 3, 16, 32)).shape == (1, 3, 16, 32)
    assert sizes == [32, 16, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4]
    assert sum(block.residual for block in net if hasattr(block, "residual")) == 10


@pytest.mark.parametrize("factor", [2, 8])
def test_enlarging_is_bilinear(factor):
    h = torch.randn(1, 2, 5, 6)
    found = segmentation.Bilinear(factor, trim=True)(h)
    expected = F.interpolate(h, scale_factor=factor, mode="bilinear")
    inner = slice(factor, -factor)  # at the border, interpolate repeats the last pixel
    close(found[..., inner, inner], expected[..., inner, inner])
    assert not list(segmentation.Bilinear(factor).parameters())


def test_the_small_network_sees_fifteen_pixels():
    x = torch.ones(1, 3, 31, 31, requires_grad=True)
    net = segmentation.small_fcn(4, 10)
    for weight in net.parameters():
        nn.init.constant_(weight, 0.1)
    net(x)[0, :, 15, 15].sum().backward()
    seen = torch.where(x.grad.abs().sum((0, 1)) > 0)
    assert [int(axis.min()) for axis in seen] == [8, 8]
    assert [int(axis.max()) for axis in seen] == [22, 22]


# Measures


def random_labels(n=4, classes=5, seed=0):
    torch.manual_seed(seed)
    labels = torch.randint(classes - 1, (n, 8, 8))  # the last label never occurs
    answers = torch.where(torch.rand(n, 8, 8) < 0.6, labels, torch.randint(classes - 1, (n, 8, 8)))
    return answers, labels


def test_measures_agree_with_torchmetrics():
    answers, labels = random_labels()
    found = segmentation.segmentation_scores(segmentation.confusion(answers, labels, 5))
    each = multiclass_jaccard_index(answers, labels, 5, average="none")[:4]
    close(found["miou"], each.mean())
    close(found["fwiou"], multiclass_jaccard_index(answers, labels, 5, average="weighted"))
    close(found["pixel_accuracy"], multiclass_accuracy(answers, labels, 5, average="micro"))
    iou = segmentation.class_iou(segmentation.confusion(answers, labels, 5))
    close(iou[:4], each)
    assert iou[4].isnan()


def test_measures_by_hand_and_without_ignored_pixels():
    labels = torch.tensor([0, 0, 0, 1, 1, 2, segmentation.IGNORED])
    answers = torch.tensor([0, 0, 1, 1, 2, 2, 1])
    counts = segmentation.confusion(answers, labels, 3)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    found = segmentation.segmentation_scores(counts)
    close(found["miou"], (2 / 3 + 1 / 3 + 1 / 2) / 3)
    close(found["fwiou"], (3 * 2 / 3 + 2 * 1 / 3 + 1 / 2) / 6)
    close(found["pixel_accuracy"], 4 / 6)
    with pytest.raises(ConfigError, match="no pixel"):
        segmentation.segmentation_scores(torch.zeros(3, 3, dtype=torch.int64))


def test_everything_called_field_is_what_the_exercise_says():
    labels = torch.tensor([2] * 3 + [0, 1, 3, 4, 5, 6, 7])
    found = segmentation.segmentation_scores(segmentation.confusion(labels * 0 + 2, labels, 8))
    close(found["pixel_accuracy"], 0.3)
    close(found["fwiou"], 0.09)


# The seal


class Poisoned(cycada.Known):
    """Labels that raise when anybody looks at them."""

    def answers(self, indices, **augmentation):
        raise AssertionError("a label of the target was read")


def stages(module, folder, source, target):
    """Everything that comes before the oracle, in the page's order."""
    train = fitter(folder)
    out = {"source_only": module.train_reader(train, "source", TINY, source, 0, CPU)}
    for variant in ("pixel", "no_cycle", "semantic"):
        pair = module.train_translators(
            train, f"t-{variant}", variant, TINY, source, target, 0, CPU, out["source_only"]
        )
        painted = module.translated(source, pair["to_y"])
        out[variant] = module.train_reader(train, variant, TINY, painted, 0, CPU)
    for shared in (True, False):
        config = dataclasses.replace(TINY, shared=shared)
        out[f"feature-{shared}"], right = module.adapt_features(
            train, f"feature-{shared}", config, out["pixel"], painted, target, 0, CPU
        )
        assert right.shape == (TINY.feature_steps,)
    return out


@pytest.fixture
def worlds():
    return cycada.open_worlds("tinytown", "seasons", TINY)


def test_no_stage_reads_a_label_of_the_target(worlds, tmp_path):
    poisoned = Poisoned(worlds.test.x, worlds.test.y)
    nets = stages(cycada, tmp_path, worlds.source, poisoned)
    for name, net in nets.items():
        with pytest.raises(AssertionError, match="was read"):  # the poison works
            cycada.counted(net, poisoned, 10)
        assert int(cycada.counted(net, worlds.test, 10).sum()) == worlds.test.y.numel(), name


def test_a_stage_that_reads_them_is_noticed(worlds, tmp_path):
    """The fault: features are adapted on labelled pictures of the target."""
    faulty = faults.plant(
        "cycada", "x_s, y_s = pictures_and_labels(source,", "x_s, y_s = pictures_and_labels(target,"
    )
    with pytest.raises(AssertionError, match="was read"):
        stages(faulty, tmp_path, worlds.source, Poisoned(worlds.test.x, worlds.test.y))


def test_the_seal_holds_and_the_page_hands_only_the_sealed_world_on(worlds):
    index = torch.arange(3)
    with pytest.raises(ConfigError, match="sealed"):
        worlds.target.answers(index)
    assert worlds.target.batch(index).shape == (3, 3, 32, 32)
    assert worlds.target.break_seal().answers(index).shape == (3, 32, 32)
    page = Path(cycada.__file__).read_text("utf-8")
    assert "break_seal()" not in page[: page.index("## Stage 5")].replace(
        'ConfigError("the target\'s labels are sealed: break_seal() is for the oracle only")', ""
    )


# Losses and steps


class Affine(nn.Module):
    """Multiplies by one learned number: a translator, or (with ``scores``) a task model."""

    def __init__(self, factor, scores=False):
        super().__init__()
        self.factor, self.scores = nn.Parameter(torch.tensor(float(factor))), scores

    def forward(self, x):
        h = self.factor * x
        return torch.stack([h[:, 0], -h[:, 0]], 1) if self.scores else h


def prop_task_loss(c):
    """Mean negative log-probability of the true labels; ignored pixels count nowhere."""
    scores = torch.tensor([[[0.0, 2.0, 5.0]], [[1.0, 0.0, 5.0]]]).transpose(0, 1)[:, :, None]
    y = torch.tensor([[[0, 0, segmentation.IGNORED]]])  # (1, 1, 3)
    expected = -(torch.tensor(1 / (1 + np.e)).log() + torch.tensor(1 / (1 + np.exp(-2))).log()) / 2
    close(c.loss_task(scores.view(1, 2, 1, 3), y), expected)


def prop_semantic_loss(c):
    """The labels are those of the picture before; only the picture after gets a gradient."""
    f_s = Affine(1.0, scores=True)
    before, after = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), -0.3)
    before.requires_grad_()
    after.requires_grad_()
    loss = c.loss_semantic(f_s, before, after)
    close(loss, np.log(1 + np.exp(0.6)))
    loss.backward()
    assert f_s.factor.grad is None
    assert before.grad is None
    assert after.grad[:, 0].max() < 0  # brighter is more like it was


def prop_semantic_goes_both_ways(c):
    """x_s against its translation, and x_t against its own."""
    nets = {"to_y": Affine(-1.0), "to_x": Affine(2.0)}
    nets |= {"critic_y": Affine(1.0), "critic_x": Affine(1.0)}
    x_s, x_t = torch.full((1, 3, 4, 4), 0.2), torch.full((1, 3, 4, 4), -0.1)
    f_s = Affine(1.0, scores=True)
    want = c.objective_of("semantic", 10.0, 2.0)
    terms, _ = c.generator_terms(nets, x_s, x_t, want, f_s)
    close(terms["semantic"], np.log(1 + np.exp(0.4)) + np.log(1 + np.exp(-0.4)))
    close(terms["forward"], 0.2 * 3)  # 2 * -1 * 0.2 instead of 0.2
    close(terms["backward"], 0.1 * 3)
    assert want.semantic == 2.0
    with pytest.raises(ConfigError, match="source model"):
        c.generator_terms(nets, x_s, x_t, want, None)


def prop_variants(c):
    """Which terms are on, and with which weights."""
    expected = {
        "pixel": (10.0, 10.0, 0.0), "no_cycle": (0.0, 0.0, 0.0), "semantic": (10.0, 10.0, 2.0),
        "semantic_bad": (10.0, 10.0, 2.0),
    }  # fmt: skip
    for name, weights in expected.items():
        want = c.objective_of(name, 10.0, 2.0)
        assert (want.forward, want.backward, want.semantic) == weights, name
        assert want.gan == 1.0


def prop_domain_loss(c):
    """Source is 1, target is 0, for vectors and for maps."""
    for shape in ((4, 2), (4, 2, 3, 3)):
        scores = torch.zeros(shape)
        scores[:, 1] = 1.0
        close(c.loss_domain(scores, True), np.log(1 + np.exp(-1)))
        close(c.loss_domain(scores, False), np.log(1 + np.exp(1)))
        assert c.domain_accuracy(scores, -scores) == 1.0
        assert c.domain_accuracy(scores, scores) == 0.5
        assert c.domain_accuracy(-scores, scores) == 0.0


def feature_setting(c, gap, f_s=False):
    """A task model and a critic on two worlds that differ by ``gap``; what one step changes."""
    net, critic = Affine(1.0, scores=True), nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, -1.0]])[..., None, None])
        critic.bias.zero_()
    nets = {"task": net, "domain_critic": critic}
    sgd = {name: torch.optim.SGD(n.parameters(), 0.1) for name, n in nets.items()}
    x_s, x_t = torch.full((2, 3, 4, 4), gap), torch.full((2, 3, 4, 4), -gap)
    batch = (x_s, torch.zeros(2, 4, 4, dtype=torch.int64), x_t)
    config = dataclasses.replace(TINY, weight_fool=0.5, confident=0.6)
    source_net = Affine(1.0, scores=True) if f_s else None
    step = c.make_feature_step(nets, sgd, lambda i: batch, config, source_net)
    return step, net, critic, source_net


def prop_feature_step_teaches_when_the_critic_knows(c):
    """A confident critic moves the task model to look like the source; a guessing one does not."""
    step, net, critic, f_s = feature_setting(c, 0.5, f_s=True)
    terms = step(0)
    assert terms["accuracy"] == 1.0
    assert net.factor < 1.0  # negative scores on the target shrink towards the source's
    assert f_s.factor == 1.0
    assert critic.bias.abs().max() < 1e-6  # symmetric worlds: only the weights grow
    assert critic.weight[1, 0] > 1.0
    step, net, critic, _ = feature_setting(c, -0.5, f_s=True)  # the critic has it backwards
    terms = step(0)
    assert terms["accuracy"] == 0.0
    assert net.factor == 1.0
    assert critic.weight[1, 0] < 1.0


def prop_shared_model_keeps_its_task(c):
    """With one model for both, its task loss always counts; the size of the step is known."""
    step, net, _, _ = feature_setting(c, -0.5)
    assert set(step(0)) == {"critic", "task", "accuracy"}
    slope = 1 / (1 + np.exp(-1.0))  # of log(1 + exp(factor)): scores (-0.5, 0.5), label 0
    close(net.factor.detach(), 1.0 - 0.1 * slope, atol=1e-4)


PROPERTIES = {name: value for name, value in globals().items() if name.startswith("prop_")}
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    ("return F.cross_entropy(scores, y, ignore_index=IGNORED)",
     "return F.cross_entropy(scores, y.clamp(min=0))"): "prop_task_loss",
    ("y = net(before).argmax(1)", "y = net(after).argmax(1)"): "prop_semantic_loss",
    ("loss_task(bicyclegan.frozen(net, after), y)", "loss_task(net(after), y)"):
        "prop_semantic_loss",
    ("loss_semantic(f_s, x_t, fakes", "loss_semantic(f_s, x_s, fakes"):
        "prop_semantic_goes_both_ways",
    ("\"semantic\": dataclasses.replace(full, semantic=weight_semantic),", "\"semantic\": full,"):
        "prop_variants",
    ("\"no_cycle\": Objective(),", "\"no_cycle\": full,"): "prop_variants",
    ("int(is_source)", "int(not is_source)"): "prop_domain_loss",
    ("(on_target.argmax(1) == 0)", "(on_target.argmax(1) == 1)"): "prop_domain_loss",
    ("frozen(critic, net(x_t)), True)", "frozen(critic, net(x_t)), False)"):
        "prop_feature_step_teaches_when_the_critic_knows",
    ("fool = loss_domain(bicyclegan.frozen(critic, net(x_t)), True)",
     "fool = loss_domain(bicyclegan.frozen(critic, 0 * net(x_t)), True)"):
        "prop_feature_step_teaches_when_the_critic_knows",
    ("if accuracy > c.confident:", "if accuracy >= 0:"):
        "prop_feature_step_teaches_when_the_critic_knows",
    ("there, here = (f_s or net)(x_s), net(x_t)", "here, there = (f_s or net)(x_s), net(x_t)"):
        "prop_feature_step_teaches_when_the_critic_knows",
    ("if f_s is None:\n            terms", "if f_s is not None:\n            terms"):
        "prop_shared_model_keeps_its_task",
}  # fmt: skip


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](cycada)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    with pytest.raises(AssertionError):
        PROPERTIES[name](faults.plant("cycada", *fault))


def test_translators_are_cyclegans_and_train_like_them(tmp_path, worlds):
    """With the semantic term off, one step moves the weights exactly as CycleGAN's own step."""
    c = cycada.cyclegan
    settings = cycada.translator_settings(TINY)
    batches = c.make_batches(worlds.source, worlds.target, settings, 0, CPU)
    after = []
    for ours in (True, False):
        torch.manual_seed(0)
        nets = cycada.translators(TINY)
        state = c.make_state(nets, settings)
        if ours:
            want = cycada.objective_of("pixel", 10.0, 1.0)
            step = cycada.make_translation_step(nets, state, batches, want, None)
        else:
            step = c.make_step(nets, state, batches, c.Objective(forward=10.0, backward=10.0))
        for i in range(2):
            torch.manual_seed(i)
            step(i)
        after.append([p for net in nets.values() for p in net.parameters()])
    for p, q in zip(*after, strict=True):
        assert torch.equal(p, q)


def test_dropout_stands_in_every_block_and_nowhere_else():
    nets = cycada.translators(dataclasses.replace(TINY, dropout=0.5, blocks=3))
    for name, expected in (("to_y", 3), ("to_x", 3), ("critic_y", 0)):
        found = [m for m in nets[name].modules() if isinstance(m, nn.Dropout)]
        assert len(found) == expected
    body = next(m for m in nets["to_y"].modules() if hasattr(m, "body")).body
    assert [type(m).__name__ for m in body][3:6] == ["ReLU", "Dropout", "ReflectionPad2d"]


# Data


def test_worlds_of_tinytown(worlds):
    assert len(worlds.source) == len(worlds.target) == 12
    assert len(worlds.test) == 8
    streets = [{y.numpy().tobytes() for y in w.y} for w in (worlds.source, worlds.test)]
    streets.append({y.numpy().tobytes() for y in worlds.target.break_seal().y})
    assert sum(len(s) for s in streets) == len(set.union(*streets)) == 32


def test_the_camera_changes_the_look_and_not_the_street():
    _, target, test = cycada.open_worlds("tinytown", "camera", TINY)
    again = cycada.open_worlds("tinytown", "camera", TINY)
    assert torch.equal(test.x, again.test.x)  # the same grain every time
    plain = cycada.town("summer", 12, cycada.cyclegan.SEEDS[False][1], 32, TINY.times)
    seen = target.break_seal()
    assert torch.equal(plain.y, seen.y)
    assert 0.15 < (plain.x - seen.x).abs().mean() < 0.6
    assert seen.x.abs().max() <= 1
    colour = [x.std(1).mean() for x in (plain.x, seen.x)]
    assert colour[1] < colour[0]


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


NAMES = {  # pattern of a folder: names of three files that match it
    "00??[RE]*": "0006R0_f{}.png", "0001TP*": "0001TP_{}.png", "*/*.png": "town/{}.png",
    "*/*_color.png": "town/{}_color.png", "*.png": "{}.png", "*": "{}.png",
}  # fmt: skip
SIDEWALK = (244, 35, 232)  # the second label of Cityscapes


def street_files(root, name, pictures, maps):
    """Three grey pictures; in their maps the second label on the left, nothing on the right."""
    left = np.arange(48) < 24
    for i in range(3):
        folder, pattern = pictures
        picture = np.full((24, 48, 3), 40 * i, np.uint8)
        write(root / name / folder / NAMES[pattern].format(i), picture)
        folder, pattern = maps
        path = root / name / folder / NAMES[pattern].format(i)
        if name == "synthia":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png16(np.where(left, 2, 0)[None].repeat(24, 0)))
        elif name == "camvid":
            write(path, np.where(left, 1, 11)[None].repeat(24, 0).astype(np.uint8))
        else:
            row = np.where(left[:, None], np.array(SIDEWALK, np.uint8), np.uint8(0))
            write(path, row[None].repeat(24, 0))


STREETS = [("small", "day2dusk"), ("full", "seasons"), ("full", "gta5"), ("full", "gta5_drn26")]


@pytest.mark.parametrize(("preset", "task"), STREETS)
def test_street_files_in_their_own_layout_make_one_step(preset, task, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    plan = cycada.PRESETS[preset][task]
    for name, *folders in cycada.FOLDERS[task]:
        street_files(tmp_path, name, *folders)
    config = dataclasses.replace(
        TINY, size=32, aspect=plan.config.aspect, classes=plan.config.classes, scenes=0, held_out=0,
        crop=0, task_batch=2,
    )  # fmt: skip
    source, target, test = cycada.open_worlds(plan.data, task, config)
    assert len(source) == len(target) == len(test) == 3
    assert cycada.target_data(plan.data, task) == cycada.FOLDERS[task][1][0]
    y = source.answers(torch.arange(2))
    half = y.shape[2] // 2
    assert (y[:, :, : half - 1] == 1).all()
    assert (y[:, :, half + 1 :] == segmentation.IGNORED).all()
    settings = cycada.translator_settings(config)
    x_s, x_t = cycada.cyclegan.make_batches(source, target, settings, 0, CPU)(0)
    assert x_s.shape == x_t.shape == (2, 3, 32, 32 * config.aspect)
    nets = stages_on_files(config, source, target, tmp_path)
    counts = cycada.counted(nets, test, config.classes)
    assert int(counts.sum()) in range(3 * 32 * (half - 1), 3 * 32 * (half + 2))


def stages_on_files(config, source, target, folder):
    """One step of each stage; the task model at the end."""
    train = fitter(folder)
    config = dataclasses.replace(config, epochs=1, decay_epochs=0, task_steps=1, feature_steps=1)
    pair = cycada.train_translators(train, "t", "pixel", config, source, target, 0, CPU)
    painted = cycada.translated(source, pair["to_y"])
    assert isinstance(painted, cycada.Translated)
    net = cycada.train_reader(train, "p", config, painted, 0, CPU)
    return cycada.adapt_features(train, "f", config, net, painted, target, 0, CPU)[0]


def test_crops_of_pictures_and_labels_are_the_same(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write(tmp_path / "a.png", np.stack([ramp] * 3, 2))
    write(tmp_path / "b.png", ramp)
    files = [[tmp_path / "a.png"], [tmp_path / "b.png"]]
    world = cycada.Photographs(*files, (8, 8), cycada.reader_of(70))
    for step in range(4):
        how = {"crop": 4, "flip": True, "seed": 3, "step": step}
        x, y = world.batch(torch.tensor([0]), **how), world.answers(torch.tensor([0]), **how)
        close((x[:, 0] + 1) * 127.5, y.float(), atol=1e-3)
    with pytest.raises(ConfigError, match="1 photographs with 0"):
        cycada.Photographs(files[0], [], (8, 8), cycada.reader_of(3))


def test_digits_have_one_size_and_three_channels(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    torch.manual_seed(0)
    sets = {
        "mnist": data.Labelled(torch.rand(40, 1, 28, 28), torch.arange(40) % 10),
        "usps": data.Labelled(torch.rand(30, 1, 16, 16), torch.arange(30) % 10),
    }
    for name, found in sets.items():
        monkeypatch.setattr(data, name, lambda split, found=found: found)
    config = dataclasses.replace(
        TINY, task_net="lenet", scenes=20, held_out=10, domain_widths=(6,), shared=False
    )
    source, target, test = cycada.open_worlds("usps", "usps2mnist", config)
    assert cycada.target_data("usps", "usps2mnist") == "mnist"
    assert source.x.shape == (20, 3, 32, 32)
    assert (len(target), len(test)) == (20, 10)
    assert source.x.min() >= -1
    assert source.x.max() <= 1
    close(source.x.mean(), 2 * sets["usps"].x[:20].mean() - 1, atol=0.02)
    train = fitter(tmp_path)
    net = cycada.train_reader(train, "s", config, source, 0, CPU)
    own, _ = cycada.adapt_features(train, "f", config, net, source, target, 0, CPU)
    assert int(cycada.counted(own, test, 10).sum()) == 10
    with pytest.raises(ConfigError, match="did you mean 'usps'"):
        cycada.digit_world("upsp", "train", 32, 0)


def test_house_numbers_are_read_from_their_matlab_files(tmp_path, monkeypatch):
    from scipy.io import savemat

    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    (tmp_path / "svhn").mkdir()
    pixels = np.zeros((32, 32, 3, 4), np.uint8)
    pixels[3, 5, 1, 2] = 255
    labels = np.array([[10], [1], [9], [10]], np.uint8)
    savemat(tmp_path / "svhn" / "train_32x32.mat", {"X": pixels, "y": labels})
    x, y = cycada.svhn("train")
    assert y.tolist() == [0, 1, 9, 0]
    assert x.shape == (4, 3, 32, 32)
    assert x[2, 1, 3, 5] == 1.0
    assert x.sum() == 1.0


def test_translators_resume_to_the_bit(tmp_path, worlds):
    config = dataclasses.replace(TINY, epoch_steps=2, epochs=1, decay_epochs=1, ema=0.9)

    def fit(folder, limit, resume=False):
        def train(label, step, state, steps, *, seed=0):
            options = {"folder": folder, "seed": seed, "identity": label, "resume": resume}
            training.fit(step, state, min(limit, steps), **options)

        return cycada.train_translators(
            train, "t", "pixel", config, worlds.source, worlds.target, 0, CPU
        )

    whole = fit(tmp_path / "a", 4)
    fit(tmp_path / "b", 2)
    again = fit(tmp_path / "b", 4, resume=True)
    for name, net in whole.items():
        for p, q in zip(net.parameters(), again[name].parameters(), strict=True):
            assert torch.equal(p, q)


def test_the_committed_record_is_of_this_chapter():
    kept = list((Path(__file__).parent.parent / "book" / "results").glob("cycada-*.json"))
    for path in kept:
        record = json.loads(path.read_text())
        assert record["chapter"] == "cycada"
        if record["task"].endswith(("mnist", "usps")):
            for name in ("source_only", "pixel", "feature", "oracle"):
                assert 0 < record["metrics"][f"accuracy.{name}"] <= 1
    if os.environ.get("MINILIB_REQUIRE_RECORDS"):
        assert kept
