import dataclasses
import itertools

import pytest
import torch
from torch.nn import functional as F

from minilib import chapters, plots
from minilib.config import ConfigError, resolve

mc = chapters.load("mode_collapse")
TINY = mc.PRESETS["smoke"]["modes"].config


@pytest.fixture
def clouds():
    torch.manual_seed(0)
    return torch.randn(2, 3, 7, 2), torch.randn(2, 3, 5, 2)


def brute_nearest(points, others):
    """One loop per index, in float64."""
    index = torch.empty(points.shape[:-1], dtype=torch.long)
    for place in itertools.product(*map(range, points.shape[:-1])):
        p, rest = points[place].double(), others[place[:-1]].double()
        index[place] = min(range(len(rest)), key=lambda j: float(((p - rest[j]) ** 2).sum()))
    return index


# --- matching ------------------------------------------------------------------------------------


def test_nearest_is_brute_force(clouds):
    y_hat, y = clouds
    assert torch.equal(mc.nearest(y_hat, y), brute_nearest(y_hat, y))
    assert torch.equal(mc.nearest(y, y_hat), brute_nearest(y, y_hat))


def test_nearest_does_not_round_far_from_the_origin():
    torch.manual_seed(0)
    points, others = 500 + torch.rand(40, 2), 500 + torch.rand(40, 2)
    fast = torch.cdist(points, others, compute_mode="use_mm_for_euclid_dist").argmin(-1)
    right = brute_nearest(points, others)
    assert not torch.equal(fast, right)  # the default mode would fail here
    assert torch.equal(mc.nearest(points, others), right)


def test_pick_takes_whole_points(clouds):
    y_hat, y = clouds
    picked = mc.pick(y, mc.nearest(y_hat, y))
    assert picked.shape == y_hat.shape
    assert torch.equal(picked[1, 2, 3], y[1, 2, mc.nearest(y_hat, y)[1, 2, 3]])


def test_arrows_start_at_samples_and_end_at_real_points(clouds):
    y_hat, y = (c[0, 0] for c in clouds)
    start, end = mc.arrows(y, y_hat, by="real")
    assert torch.equal(end, y)
    assert all(any(torch.equal(s, p) for p in y_hat) for s in start)
    start, end = mc.arrows(y, y_hat, by="sample")
    assert torch.equal(start, y_hat)
    assert all(any(torch.equal(e, p) for p in y) for e in end)


# --- losses --------------------------------------------------------------------------------------


def closed_form(y_hat, y, sum_over_real):
    """Value and gradient with respect to y_hat (M, D), from the equations."""
    distance = ((y_hat[:, None] - y[None]) ** 2).sum(-1)  # (M, N)
    gradient = torch.zeros_like(y_hat)
    if sum_over_real:
        for i, j in enumerate(distance.argmin(0)):
            gradient[j] += 2 * (y_hat[j] - y[i]) / len(y)
        return distance.min(0).values.mean(), gradient
    for j, i in enumerate(distance.argmin(1)):
        gradient[j] += 2 * (y_hat[j] - y[i]) / len(y_hat)
    return distance.min(1).values.mean(), gradient


def assert_matches(loss, sum_over_real, y_hat, y):
    y_hat = y_hat.double().requires_grad_()
    value = loss(y_hat, y.double())
    (gradient,) = torch.autograd.grad(value, y_hat)
    expected, expected_gradient = closed_form(y_hat.detach(), y.double(), sum_over_real)
    torch.testing.assert_close(value.detach(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


def test_the_matching_losses_are_their_closed_forms(clouds):
    y_hat, y = (c[1, 0] for c in clouds)
    assert_matches(mc.imle_loss, True, y_hat, y)
    assert_matches(mc.nn_gan_loss, False, y_hat, y)


def test_a_swapped_direction_is_caught(clouds):
    y_hat, y = (c[1, 0] for c in clouds)
    for loss, sum_over_real in ((mc.nn_gan_loss, True), (mc.imle_loss, False)):
        with pytest.raises(AssertionError):
            assert_matches(loss, sum_over_real, y_hat, y)


def test_a_detached_loss_is_caught(clouds):
    y_hat, y = (c[1, 0] for c in clouds)
    with pytest.raises(RuntimeError, match="grad"):
        assert_matches(lambda a, b: mc.imle_loss(a.detach(), b), True, y_hat, y)


def test_losses_match_within_leading_dimensions_only(clouds):
    y_hat, y = clouds
    for loss in (mc.imle_loss, mc.nn_gan_loss):
        whole = loss(y_hat, y)
        assert whole.shape == (2, 3)
        torch.testing.assert_close(whole[1, 2], loss(y_hat[1, 2], y[1, 2]), rtol=1e-6, atol=0)


def test_with_one_real_answer_gan_matching_is_regression():
    torch.manual_seed(0)
    y_hat, y = torch.randn(4, 6, 1), torch.randn(4, 1, 1)
    torch.testing.assert_close(mc.nn_gan_loss(y_hat, y), (y_hat - y).square().mean((1, 2)))
    assert (mc.imle_loss(y_hat, y) < mc.nn_gan_loss(y_hat, y)).all()


def test_the_gan_losses_are_binary_cross_entropies():
    torch.manual_seed(0)
    real, fake = torch.randn(3, 10, 1), torch.randn(3, 10, 1)
    bce = F.binary_cross_entropy_with_logits
    for r in range(3):
        ones, zeros = torch.ones(10, 1), torch.zeros(10, 1)
        expected = bce(real[r], ones) + bce(fake[r], zeros)
        torch.testing.assert_close(mc.discriminator_loss(real, fake)[r], expected)
        torch.testing.assert_close(mc.generator_loss(fake)[r], bce(fake[r], ones))


def modes_reached(loss):
    """Modes of the ring that a small generator reaches after 300 steps."""
    torch.manual_seed(0)
    generator, y = mc.stacked_mlp(1, 2, 2, 32, 2), mc.draw_points(mc.ring(), 0.1, 1, 256)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    step = mc.matching_step(generator, optimizer, y, loss, 64, 2, 32, 2, 0)
    for i in range(300):
        step(i)
    with torch.no_grad():
        y_hat = generator(torch.randn(1, 2000, 2))
    return mc.measure(y_hat, mc.ring(), 0.1)["modes_reached"].item()


def test_the_direction_decides_what_is_left_out():
    assert modes_reached(mc.imle_loss) == 8
    assert modes_reached(mc.nn_gan_loss) <= 4


def test_collapse_costs_nothing_in_gan_matching():
    y = mc.ring()
    heap = y[:1].repeat(12, 1)  # twelve samples on one real point
    assert mc.nn_gan_loss(heap, y) == 0
    expected = (y - y[0]).square().sum(-1).mean()
    torch.testing.assert_close(mc.imle_loss(heap, y), expected)


# --- worlds and measures -------------------------------------------------------------------------


@pytest.mark.parametrize("centres", [mc.ring(), mc.grid()], ids=["ring", "grid"])
def test_neighbouring_modes_are_one_apart(centres):
    between = torch.pdist(centres)
    assert abs(between.min() - 1) < 1e-6
    torch.testing.assert_close(centres.mean(0), torch.zeros(2), rtol=0, atol=1e-6)


def test_points_are_spread_evenly_over_the_modes():
    torch.manual_seed(0)
    centres = mc.grid()
    y = mc.draw_points(centres, 0.1, 2, 50_000)
    shares = F.one_hot(mc.nearest(y, centres.expand(2, -1, -1)), 25).float().mean(1)
    assert (shares - 1 / 25).abs().max() < 0.005
    residual = y - mc.pick(centres.expand(2, -1, -1), mc.nearest(y, centres.expand(2, -1, -1)))
    assert abs(residual.std() - 0.1) < 0.001


def test_a_sample_belongs_to_a_mode_within_the_radius_only():
    y_hat = torch.tensor([[[0.0, 0.29], [0.0, 0.31], [1.2, 0.0], [9.0, 9.0]]])
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert mc.mode_of(y_hat, centres, 0.3).tolist() == [[0, -1, 1, -1]]


def test_a_mode_needs_half_its_fair_share():
    half = torch.tensor([[0] * 2 + [1] * 6, [0] * 1 + [1] * 7])  # shares of mode 0: 2/8, 1/8
    assert mc.covered(half, 2).tolist() == [2, 1]
    assert mc.covered(torch.full((1, 8), -1), 2).tolist() == [0]


def test_samples_between_modes_count_against_coverage():
    mode = torch.tensor([[0, 1] * 10 + [-1] * 80])  # a tenth of all samples in each mode
    assert mc.covered(mode, 2).tolist() == [0]


def test_the_measure_likes_real_points_and_not_a_spray():
    torch.manual_seed(0)
    centres = mc.grid()
    real = mc.measure(mc.draw_points(centres, 0.1, 3, 5000), centres, 0.1)
    assert real["modes_covered"].tolist() == [25.0] * 3
    assert (real["high_quality_share"] - 0.989).abs().max() < 0.005  # 1 - exp(-9 / 2)
    assert real["total_variation"].max() < 0.08
    spray = mc.measure(4.6 * torch.rand(3, 5000, 2) - 2.3, centres, 0.1)
    assert spray["modes_covered"].max() <= 2  # although it reaches all of them
    assert spray["modes_reached"].tolist() == [25.0] * 3
    assert (spray["high_quality_share"] - 25 * 0.09 * torch.pi / 4.6**2).abs().max() < 0.03


def test_one_point_repeated_covers_one_mode():
    centres = mc.ring()
    values = mc.measure(centres[3].expand(1, 100, 2), centres, 0.1)
    assert values["modes_covered"].item() == 1
    assert values["high_quality_share"].item() == 1
    assert abs(values["total_variation"].item() - 7 / 8) < 1e-6


# --- networks and steps --------------------------------------------------------------------------


def test_stacked_layers_are_linear_layers():
    torch.manual_seed(0)
    layer, x = mc.StackedLinear(3, 4, 5), torch.randn(3, 6, 4)
    for r in range(3):
        expected = F.linear(x[r], layer.weight[r].T, layer.bias[r, 0])
        torch.testing.assert_close(layer(x)[r], expected)
    assert layer.weight.abs().max() <= 0.5  # 1 / sqrt(4), as nn.Linear
    assert not torch.equal(layer.weight[0], layer.weight[1])


def train(kind, y, steps=3, runs=2):
    """The generator's weights after some steps of one of the methods."""
    torch.manual_seed(0)
    nets = mc.networks(dataclasses.replace(TINY, runs=runs))
    rates = {"generator": 1e-2, "discriminator": 1e-2}
    rates = rates if kind == "gan" else {"generator": 1e-2}
    state = mc.make_state(nets, rates, 10, 0, 0.99)
    if kind == "gan":
        step = mc.gan_step(**nets, optimizers=state.optimizers, y=y, batch=8, latent=2, seed=0)
    else:
        loss = {"imle": mc.imle_loss, "nn_gan": mc.nn_gan_loss}[kind]
        optimizer = state.optimizers["generator"]
        step = mc.matching_step(nets["generator"], optimizer, y, loss, 8, 2, 5, 2, 0)
    for i in range(steps):
        torch.manual_seed(100 + i)
        assert all(torch.isfinite(term) for term in step(i).values())
    return [p.detach() for p in nets["generator"].parameters()]


@pytest.mark.parametrize("kind", ["imle", "nn_gan", "gan"])
def test_runs_never_see_each_other(kind):
    torch.manual_seed(1)
    y = torch.randn(2, 16, 2)
    changed = y.clone()
    changed[1] += 5
    for a, b in zip(train(kind, y), train(kind, changed), strict=True):
        torch.testing.assert_close(a[0], b[0], rtol=0, atol=1e-7)
        assert (a[1] - b[1]).abs().max() > 1e-4


def test_the_discriminators_step_leaves_the_generator_alone():
    torch.manual_seed(0)
    nets = mc.networks(TINY)
    y_hat = nets["generator"](torch.randn(2, 8, 2))
    real = nets["discriminator"](torch.randn(2, 8, 2))
    mc.discriminator_loss(real, nets["discriminator"](y_hat.detach())).sum().backward()
    assert all(p.grad is None for p in nets["generator"].parameters())


def test_groups_have_to_divide_the_batch():
    nets = mc.networks(TINY)
    optimizer = torch.optim.SGD(nets["generator"].parameters(), lr=0.1)
    y = torch.randn(2, 16, 2)
    step = mc.matching_step(nets["generator"], optimizer, y, mc.imle_loss, 8, 3, 5, 2, 0)
    with pytest.raises(RuntimeError):
        step(0)


def test_answers_depend_on_their_own_input_only():
    torch.manual_seed(0)
    net = mc.stacked_mlp(1, 3, 1, 8, 2)
    x = torch.tensor([[0.1], [0.7]])
    torch.manual_seed(3)
    before = mc.answers(net, x, 4, 2)
    torch.manual_seed(3)
    after = mc.answers(net, torch.tensor([[0.1], [-0.7]]), 4, 2)
    assert before.shape == (2, 4, 1)
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-3
    assert before[0].std() > 1e-3  # the latent matters


def test_branches_are_the_right_answers():
    expected = torch.tensor([[-0.6, 0.0, 0.6], [-0.8, 0.0, 0.8]])
    torch.testing.assert_close(mc.branches(torch.tensor([0.5, -1.0])), expected)


def test_a_scene_counts_who_is_left_out():
    y, y_hat = mc.ring(), torch.tensor([[0.5, 0.1], [0.4, 0.0], [0.6, 0.0]])
    text = mc.scene(y, y_hat, mc.arrows(y, y_hat, by="sample"), "nn_gan").text
    assert text == "All 3 samples are pulled, by 1 of 8 real points."
    pulls = mc.arrows(y, y_hat, by="real")
    text = mc.scene(y, y_hat, pulls, "imle").text
    assert text == f"All 8 real points pull; {len(pulls[0].unique(dim=0))} of 3 samples are pulled."
    assert set(mc.STYLES) == {"real", "generated", "pull"}
    assert mc.STYLES["pull"]["colour"] == plots.GREY


# --- presets -------------------------------------------------------------------------------------


def test_presets_share_the_toy_networks():
    described = chapters.describe("mode_collapse", "toy")[0].parameters
    one = 2 * 64 + 64 + 2 * (64 * 64 + 64)  # 2 inputs, 3 hidden layers of 64
    assert described == {
        "generator": 5 * (one + 64 * 2 + 2),
        "discriminator": 5 * (one + 64 + 1),
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stpes": 3}, "did you mean 'steps'"),
        ({"steps": -1}, "'steps' must be at least 1"),
        ({"spread": 0.4}, "'spread' must be at most 0.16"),
    ],
)
def test_bad_overrides_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve(mc.PRESETS, "toy", "", overrides)
