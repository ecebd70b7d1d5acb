import dataclasses
import math
import time

import pytest
import torch
from faults import plant
from torch import nn

from minilib import chapters, tinytown
from minilib.config import ConfigError, resolve

side = chapters.load("side_by_side")
CPU = torch.device("cpu")
LAYOUT = side.PRESETS["smoke"]["layout"].config
GREY = side.PRESETS["smoke"]["grey"].config
CASES = [(LAYOUT, n) for n in LAYOUT.methods] + [(GREY, n) for n in GREY.methods]
CASE_NAMES = [f"{c.question}-{n}" for c, n in CASES]


@pytest.fixture(scope="module")
def settings():
    """A setting for each of the two questions."""
    found = {}
    for question in ("layout", "grey"):
        pairs = side.open_pairs(question, 24, 0)
        shape = tuple(pairs.pairs(torch.arange(1))[0].shape[1:])
        found[question] = side.Setting(pairs=pairs, shape=shape, seed=0, device=CPU)
    return found


def built(module, config, name, given, steps=2, train=1):
    """The last stage of a method, after ``train`` steps of each of its stages."""
    before = None
    for build in module.stages_of(name, config):
        torch.manual_seed(given.seed)
        stage = build(given, steps, before)
        for i in range(train):
            torch.manual_seed(i)
            module.one_step(stage, i)
        before = stage.result()
    return stage


# --- every method, as its own chapter has it ------------------------------------------------------


@pytest.mark.parametrize(("config", "name"), CASES, ids=CASE_NAMES)
def test_every_method_trains_and_samples(settings, config, name):
    given = settings[config.question]
    stage = built(side, config, name, given)
    x, _ = given.pairs.pairs(torch.arange(2))
    z = torch.randn(2, 3, side.latents(config)[name])
    sampler = stage.result().eval()
    y_hat = side.drawn(sampler, x, z)
    assert y_hat.shape == (2, 3, 3, 32, 32)
    assert y_hat.abs().max() <= 1
    before = {k: v.clone() for k, v in sampler.state_dict().items() if v.is_floating_point()}
    for i in range(1, 3):
        side.one_step(stage, i)
    after = stage.result().state_dict()
    assert any(not torch.equal(v, after[k]) for k, v in before.items())  # it is what trains


@pytest.mark.parametrize("name", [n for n in LAYOUT.methods if n != "crn9"])
def test_z_moves_the_picture(settings, name):
    sampler = built(side, LAYOUT, name, settings["layout"]).result().eval()
    x, _ = settings["layout"].pairs.pairs(torch.arange(1))
    z = torch.randn(1, 2, side.latents(LAYOUT)[name])
    a, b = side.drawn(sampler, x, z)[0]
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "chapter", "parts"),
    [
        ("bicyclegan", "bicyclegan", ["generator", "encoder", "discriminator"]),
        ("imle", "conditional_imle", ["generator", "noise_encoder"]),
        ("spade", "spade", ["generator", "encoder", "discriminator"]),
    ],
)
def test_networks_are_those_of_the_chapters_toy(settings, name, chapter, parts):
    (toy,) = chapters.describe(chapter, "toy", next(iter(chapters.load(chapter).PRESETS["toy"])))
    nets = built(side, LAYOUT, name, settings["layout"], train=0).state.networks
    if name == "imle":  # one network of two
        nets = {p: getattr(nets["model"], p) for p in parts}
    found = {p: chapters.count_parameters(nets[p]) for p in parts}
    assert found == {p: toy.parameters[p] for p in parts}


def test_cgml_draws_with_bicyclegans_generator(settings):
    nets = built(side, LAYOUT, "cgml", settings["layout"], train=0).state.networks
    assert isinstance(nets["generator"].generator, side.bicyclegan.Sharpened)
    assert isinstance(nets["median"], side.cgml.Walker)


@pytest.mark.parametrize(("config", "name"), CASES, ids=CASE_NAMES)
def test_rates_have_fallen_at_the_last_step(settings, config, name):
    steps = 48
    stage = built(side, config, name, settings[config.question], steps, train=0)
    stage.state.schedule(0)
    first = {k: o.param_groups[0]["lr"] for k, o in stage.state.optimizers.items()}
    stage.state.schedule(steps - 1)
    for k, optimizer in stage.state.optimizers.items():
        assert optimizer.param_groups[0]["lr"] < 0.1 * first[k], k


def test_phases_keep_the_proportion():
    assert side.phases(300, 2000, 1000) == {"steps": 200, "decay_steps": 100}
    assert sum(side.phases(7, 2000, 1000).values()) == 7
    assert side.phases(5, 1, 0) == {"steps": 5, "decay_steps": 0}


def test_imle_matches_as_often_as_in_its_chapter(settings):
    rounds = side.conditional_imle.TOY.rounds
    stage = built(side, GREY, "imle", settings["grey"], steps=3 * rounds, train=0)
    matches = stage.state.extras["matches"]
    pools = []
    for i in range(8):
        torch.manual_seed(i)
        old = matches.seed.clone()
        side.one_step(stage, i)
        if not torch.equal(old, matches.seed):
            pools.append(i)
    assert len(matches.index) == 3
    assert pools == [0, 3, 6]


def test_imle_begins_where_its_crn_ended(settings):
    crn = built(side, LAYOUT, "crn9", settings["layout"]).result()
    _, build = side.stages_of("imle", LAYOUT)
    start = build(settings["layout"], 4, crn).state.networks["model"].generator
    wanted = crn.crn.refine[0].second.weight
    torch.testing.assert_close(start.refine[0].second.weight, wanted, rtol=0, atol=0)


def test_a_training_is_a_function_of_its_seed(settings):
    given = settings["layout"]
    a, b, c = (
        built(side, LAYOUT, "cgml", dataclasses.replace(given, seed=s)).result().state_dict()
        for s in (0, 0, 1)
    )
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_unknown_methods_are_refused():
    with pytest.raises(ConfigError, match="unknown variant 'spad': did you mean 'spade'"):
        side.stages_of("spad", LAYOUT)
    with pytest.raises(ConfigError, match="unknown variant 'spade'"):
        side.stages_of("spade", GREY)
    with pytest.raises(ConfigError, match="question"):
        resolve(side.PRESETS, "toy", overrides={"question": "sound"})


def test_every_task_describes_its_networks():
    for preset in side.PRESETS:
        layout, grey = chapters.describe("side_by_side", preset)
        assert set(layout.parameters) - set(grey.parameters) == {"spade"}
        assert min(layout.parameters.values()) > 100_000


# --- one shape for all ----------------------------------------------------------------------------


class NineFlat(nn.Module):
    """A CRN whose output k is the constant k / 10."""

    outputs = 9

    def forward(self, x):
        values = torch.arange(9.0).repeat(3) / 10
        return values[None, :, None, None].expand(len(x), -1, 2, 2)


def chosen(module, z):
    """Which of nine outputs each z (B,) picks."""
    pictures = module.OneOfMany(NineFlat())(torch.zeros(len(z), 1, 2, 2), z[:, None])
    return (10 * pictures[:, 0, 0, 0]).round().long()


def test_one_number_picks_each_output_equally_often():
    middles = (torch.arange(9) + 0.5) / 9
    z = math.sqrt(2) * torch.erfinv(2 * middles - 1)
    assert chosen(side, z).tolist() == list(range(9))
    assert chosen(side, torch.tensor([-9.0, 9.0])).tolist() == [0, 8]
    faulty = plant("side_by_side", "quantile = 0.5 + 0.5 *", "quantile = 0.5 *")
    assert chosen(faulty, z).tolist() != list(range(9))


class Tint(nn.Module):
    """A generator that can be worked out by hand: the first three channels of x, plus z."""

    def forward(self, x, z):
        return x[:, :3] + z[:, :, None, None]


def test_flat_is_the_generator_on_flat_tensors():
    x, z = torch.randn(2, 4, 5, 6), torch.randn(2, 3)
    y_hat = side.Flat(Tint(), (4, 5, 6))(x.flatten(1)[None], z[None])
    assert y_hat.shape == (1, 2, 90)
    torch.testing.assert_close(y_hat[0].view(2, 3, 5, 6), Tint()(x, z))


def test_the_walker_sees_means_of_a_grid():
    x = torch.randn(2, 3, 8, 12)
    seen = side.Coarse(lambda h, z: h, (3, 8, 12))(x.flatten(1)[None], None)
    assert seen.shape == (1, 2, 48)
    torch.testing.assert_close(seen[0, 1, 16 + 4 + 2], x[1, 1, 2:4, 6:9].mean())


class Turn(nn.Module):
    """A walker that moves a latent by a fixed amount, with a step of half that length."""

    def forward(self, h, z):
        return torch.tensor([0.0, 0.5, 0.0]).expand_as(z), torch.full_like(z[..., :1], 0.5)


def test_a_walked_sampler_draws_where_the_walk_ends():
    x, z = torch.zeros(1, 4, 2, 2), torch.tensor([[3.0, 0.0, 0.0]])
    end = torch.tensor([1.0, 0.0, 0.0])
    for _ in range(2):
        end = end + torch.tensor([0.0, 0.25, 0.0])  # alpha times the length, along the move
        end = end / end.norm()
    walked = side.Walked(side.Flat(Tint(), (4, 2, 2)), Turn(), 2, 0.5)(x, z)
    torch.testing.assert_close(walked[0, :, 0, 0], end, rtol=0, atol=1e-5)


def test_everyone_has_a_place_and_its_part_of_z():
    class Wide(Tint):
        def forward(self, x, z):
            return super().forward(x, z.expand(-1, 3)) / 2

    x = tinytown.one_hot(tinytown.layouts(2, 0, 32))
    z = torch.tensor([[0.1, 0.2, 0.3]]).expand(2, -1)
    samplers = [Tint(), Wide(), Tint(), Wide(), Tint()]
    page = side.Everyone(samplers, [3, 1, 3, 1, 3])(x, z)
    assert page.shape == (2, 3, 2 * 34, 3 * 34)
    tiles = page.unfold(2, 34, 34).unfold(3, 34, 34)[..., 1:33, 1:33]  # (2, 3, 2, 3, 32, 32)
    layout = tinytown.draw_layout(x.argmax(1))
    torch.testing.assert_close(tiles[:, :, 0, 0], layout)
    torch.testing.assert_close(tiles[:, :, 0, 1], Tint()(x, z).clamp(-1, 1))
    torch.testing.assert_close(tiles[:, :, 1, 1], (x[:, :3] + 0.1) / 2)
    short = side.Everyone(samplers[:1], [3])(x, z)  # a layout and one answer: the third is blank
    assert short.shape == (2, 3, 34, 3 * 34)
    assert (short[..., 2 * 34 :] == 1).all()


# --- time and memory ------------------------------------------------------------------------------


def test_waiting_costs_no_processor_time():
    begin = side.clock(CPU)
    time.sleep(0.3)
    assert side.clock(CPU) - begin < 0.2


def exponentials(count):
    x = torch.zeros(1000, requires_grad=True)
    for _ in range(count):
        x = x.exp()  # keeps its result, 4,000 bytes
    x.sum().backward()


@pytest.mark.parametrize("count", [1, 3])
def test_memory_is_what_the_backward_pass_needs(count):
    assert side.backward_memory(lambda: exponentials(count)) == 4000 * count


def test_memory_is_that_of_the_fullest_moment():
    def twice():
        exponentials(3)
        exponentials(2)

    assert side.backward_memory(twice) == 12_000
    faulty = plant("side_by_side", "now -= 0 if holders[place] else size", "now -= 0")
    assert faulty.backward_memory(twice) > 12_000


def test_memory_counts_a_storage_once_and_weights_not_at_all():
    weight = torch.zeros(1000, requires_grad=True)

    def square():
        x = (weight + 1).relu()  # kept
        (x * x * weight).sum().backward()  # x twice, the product once, the weight

    assert side.backward_memory(square) == 8000


# --- data and measures ----------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["layout", "grey"])
def test_every_answer_in_the_data_is_one_of_the_nine(settings, question):
    pairs, palette = settings[question].pairs, side.PALETTES[question]
    right = side.right_answers(pairs.labels[:6], palette)
    gap = side.gaps(pairs.y[:6, None], right)[:, 0]  # (6, 9)
    mode = pairs.styles.mode if question == "layout" else pairs.styles.colour
    assert gap.argmin(1).tolist() == mode[:6].tolist()
    assert gap.amin(1).max() < 1e-3


def test_grey_pictures_do_not_tell_their_colours(settings):
    pairs = settings["grey"].pairs
    nine = side.right_answers(pairs.labels[:2], "isoluminant")
    grey = side.lightness(nine.flatten(0, 1)).unflatten(0, (2, 9))
    assert (grey - grey[:, :1]).abs().max() < 0.02
    white, black = side.lightness(torch.ones(1, 3, 1, 1)), side.lightness(-torch.ones(1, 3, 1, 1))
    assert (float(white), float(black)) == pytest.approx((1, -1), abs=1e-4)


def test_the_cinn_reads_the_same_pairs(settings):
    """From what it is given, the pictures come back as the answers that they were."""
    pairs, toy = settings["grey"].pairs, side.colourization.TOY
    greys = side.chroma_pairs(pairs, toy.chroma, toy.scale)
    torch.testing.assert_close(greys.x, pairs.x, rtol=0, atol=1e-4)
    assert greys.y.shape == (24, 1, 2, toy.chroma, toy.chroma)
    ab = side.colourization.upsample(toy.scale * greys.y[:, 0], greys.x)
    read = tinytown.mode_of_sample(
        side.colourization.to_rgb(greys.x, ab), pairs.labels, "isoluminant"
    )
    assert (read == pairs.styles.colour).float().mean() > 0.9


def test_gaps_are_root_mean_squares():
    y_hat, right = torch.randn(2, 3, 3, 4, 4), torch.randn(2, 5, 3, 4, 4)
    wanted = (y_hat[1, 2] - right[1, 4]).square().mean().sqrt()
    torch.testing.assert_close(side.gaps(y_hat, right)[1, 2, 4], wanted)


@pytest.fixture(scope="module")
def exact(settings):
    pairs = settings["layout"].pairs
    right = side.right_answers(pairs.labels[:8], "natural")
    return pairs, right


def test_nine_right_answers_score_as_they_should(exact):
    pairs, right = exact
    found = side.scores(right, pairs.y[:8], pairs.labels[:8], "natural")
    assert found["modes_covered"] == found["leans_to"] == 9
    assert found["mode_tv"] == pytest.approx(0, abs=1e-6)
    assert found["right_share"] == found["near_share"] == 1
    assert max(found[k] for k in ("sample_error", "answer_error")) < 1e-3
    assert found["best_of_1"] > 0.05 > found["best_of_8"]


def test_one_answer_and_the_average_are_told_apart(exact):
    pairs, right = exact
    labels, y = pairs.labels[:8], pairs.y[:8]
    one = side.scores(right[:, :1].expand(-1, 9, -1, -1, -1), y, labels, "natural")
    mean = side.scores(right.mean(1, True).expand_as(right), y, labels, "natural")
    assert one["modes_covered"] == one["leans_to"] == 1
    assert one["sample_error"] < 1e-3 < one["answer_error"]
    assert mean["right_share"] == 0
    assert mean["sample_error"] > 0.1
    assert mean["best_of_1"] < side.scores(right, y, labels, "natural")["best_of_1"]
    assert one["distance"] == pytest.approx(0, abs=1e-2)
