"""How the Swapping Autoencoder is measured, and the data it reads."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from swapping_cases import TINY, check_is_noticed, close, properties, setting, swapping


def prop_scores(w):
    """The truth scores as it should, a copy does not."""
    labels = w.tinytown.layouts(6, 3, 32)
    one, other = w.tinytown.style_of_mode(torch.arange(6)), w.tinytown.style_of_mode(8)
    wanted = torch.full((6,), 8)
    truth = w.tinytown.render(labels, w.tinytown.style_of_mode(wanted))
    copy = w.tinytown.render(labels, one)
    judge = w.bicyclegan.make_judge(4)
    best = w.town_scores(judge, truth, labels, wanted)
    assert best["texture_taken"] == best["right_share"] == 1
    assert best["structure_read"] > 0.9
    assert w.town_scores(judge, copy, labels, wanted)["texture_taken"] == 0
    assert len(other) == 1


def prop_mean_colour(w):
    """The shifted copy has the other picture's mean colour, and its own differences."""
    x, other = 0.2 * torch.rand(2, 3, 8, 8), -0.3 * torch.rand(2, 3, 8, 8)
    moved = w.mean_colour_transfer(x, other)
    close(moved.mean((2, 3)), other.mean((2, 3)), atol=1e-5)
    close(moved - moved.mean((2, 3), keepdim=True), x - x.mean((2, 3), keepdim=True), atol=1e-5)


def prop_pairs(w):
    """Every picture with the ones after it, never with itself."""
    first, second = w.pairs(5, 2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(
        (i, (i + k) % 5) for i in range(5) for k in (1, 2)
    )


def prop_principal(w):
    """Directions of length one by falling deviation, those of a known cloud."""
    torch.manual_seed(0)
    points = torch.randn(4000, 3) * torch.tensor([1.0, 5.0, 2.0]) + 7
    ways, spread = w.principal(points, 2)
    close(ways.abs(), [[0.0, 1, 0], [0, 0, 1]], atol=0.05)
    close(spread, [5.0, 2.0], rtol=0.05)


def prop_linear_probe(w):
    """A group that shifts the codes is named, one that does not is guessed."""
    torch.manual_seed(0)
    groups, answers = torch.arange(600) % 3, torch.arange(300) % 3
    shifts = torch.tensor([[5.0, 0.0], [9.0, 0.0], [5.0, 4.0]])
    codes, new = (shifts[g] + 0.1 * torch.randn(len(g), 2) for g in (groups, answers))
    assert w.linear_probe(codes, groups, new, answers) > 0.99
    assert 0.2 < w.linear_probe(codes, groups, new, answers[torch.randperm(300)]) < 0.47
    assert w.linear_probe(codes, groups, new, (answers + 1) % 3) < 0.01


def prop_explained(w):
    """All of the variance between groups, or none of it."""
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    close(w.explained(groups.float(), groups), 1.0)
    close(w.explained(torch.tensor([-1.0, 1, -1, 1, -1, 1]), groups), 0.0)
    close(w.explained(torch.tensor([0.0, 2, 2, 4, 1, 3]), groups), 0.4)


def prop_stamp_and_mask(w):
    """The stamp copies a square and leaves the original; the mask holds the place touched."""
    torch.manual_seed(0)
    s = w.unit(torch.randn(1, 4, 6, 6))[0]
    before = s.clone()
    edited = w.stamp(s, (0, 1), (3, 2), 2)
    close(edited[:, 3:5, 2:4], s[:, 0:2, 1:3])
    assert int((edited != s).any(0).sum()) == 4
    assert torch.equal(s, before)
    mask = w.self_similarity_mask(s, 2, 3, 0.99)
    assert mask[2, 3] == 1
    assert mask.sum() == 1


def prop_distances(w):
    """Structure distance forgets a scale of the features, style distance forgets places."""
    torch.manual_seed(0)
    f = torch.rand(2, 6, 16, 16)
    assert w.structure_distance(f, f) < 1e-6
    assert w.structure_distance(f, 3 * f) < 1e-5
    assert w.structure_distance(f, f.roll(5, dims=3)) > 0.01
    assert w.style_distance(f, f.flip(2)) < 1e-4
    assert w.style_distance(f, f + 1) == pytest.approx(6, rel=0.01)


PROPERTIES = properties(globals())
FAULTS = {  # (what stands in the chapter, what a fault makes of it): the property that notices
    (
        "other.mean(dim=(2, 3), keepdim=True) - x.mean",
        "other.mean(dim=(2, 3), keepdim=True) + x.mean",
    ): "prop_mean_colour",
    ("math.sqrt(len(points) - 1)", "1.0"): "prop_principal",
    ("F.pad(c.flatten(1), (0, 1), value=1.0)", "F.pad(c.flatten(1), (0, 1))"): (
        "prop_linear_probe"
    ),
    ("edited = s.clone()", "edited = s"): "prop_stamp_and_mask",
    ("unit(places - places.mean(dim=2, keepdim=True))", "places"): "prop_distances",
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    PROPERTIES[name](swapping)


@pytest.mark.parametrize(("fault", "name"), FAULTS.items(), ids=lambda v: str(v)[:50])
def test_planted_faults_are_noticed(fault, name):
    check_is_noticed(fault, PROPERTIES[name])


def test_the_critics_adam_is_slowed_down_by_sixteen_seventeenths():
    nets, _ = setting()
    config = dataclasses.replace(TINY, rate=0.002, critic_rate=1.0, beta1=0.5, r1_every=16)
    state = swapping.make_state(nets, config)
    codec, critics = (state.optimizers[n].param_groups[0] for n in ("codec", "critics"))
    assert codec["lr"] == 0.002
    assert critics["lr"] == pytest.approx(0.002 * 16 / 17)
    assert critics["betas"] == pytest.approx((0.5 ** (16 / 17), 0.99 ** (16 / 17)))


def test_town_images_hold_out_other_scenes():
    train = swapping.open_images("tinytown", TINY)
    held_out = swapping.open_images("tinytown", TINY, held_out=True)
    assert (len(train), len(held_out)) == (TINY.scenes, TINY.held_out)
    assert not any((held_out.labels[0] == one).all() for one in train.labels)


@pytest.mark.parametrize("task", ["afhq", "ffhq_512", "ffhq_1024"])
def test_real_data_in_its_own_layout_makes_steps(task, tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    plan = swapping.PRESETS["full"][task]
    train, test, _ = swapping.FOLDERS[plan.data]
    generator = np.random.default_rng(0)
    for split in {train, test}:
        folder = tmp_path / plan.data / split / "cat"
        folder.mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    config = dataclasses.replace(
        TINY, size=64, load_size=80, flip=True, held_out=2, critic_widths=(4,) * 5
    )
    pictures = swapping.open_images(plan.data, config)
    assert len(pictures) == (6 if train != test else 4)
    assert len(swapping.open_images(plan.data, config, held_out=True)) == 2
    batches = swapping.make_batches(pictures, config, 0, torch.device("cpu"))
    assert batches(0).shape == (4, 3, 64, 64)
    nets = swapping.networks(config)
    state = swapping.make_state(nets, config)
    step = swapping.make_step(
        nets, state.optimizers, batches, swapping.make_cut(config), swapping.Objective(), 1
    )
    for i in range(2):
        assert all(torch.isfinite(term) for term in step(i).values())


def test_a_search_stops_at_its_goal_or_its_last_step():
    nets, x = setting()
    generator = nets["generator"].eval()
    start = tuple(c.detach()[:1] for c in nets["encoder"](x))
    first = swapping.search_codes(generator, x[:1], start, 0.0, 5, 0.05)
    assert first.steps == 5
    easy = swapping.search_codes(generator, x[:1], start, 10.0, 5, 0.05)
    assert easy.steps == 1
    longer = swapping.search_codes(generator, x[:1], start, 0.0, 30, 0.05)
    assert longer.error < first.error


def test_corruptions_that_move_things_keep_the_colours():
    kinds = swapping.corruptions(32)
    x = torch.rand(2, 3, 32, 32)
    for corrupt in kinds["shift"]:
        close(corrupt(x).mean((2, 3)), x.mean((2, 3)))
    for corrupt in kinds["blur"]:
        assert corrupt(x).std() < 0.8 * x.std()
    close(swapping.turned(x, 0.0), x, atol=1e-5)
    close(swapping.turned(x, 90.0), x.rot90(1, (2, 3)), atol=1e-4)
