import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minilib import chapters

cgml = chapters.load("cgml")
TINY = cgml.PRESETS["smoke"]["curve"].config
completion = chapters.load("cgml_completion")
spectral = chapters.load("cgml_spectral")


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return cgml.networks(TINY)


def state_of(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def unchanged(net, before):
    return all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# --- the curve -----------------------------------------------------------------------------------


def test_branches_are_opposite_and_cubic():
    both = cgml.branches(torch.tensor([[0.5]]))
    assert both[0, 0].tolist() == [2.0, 1.0, 0.5]
    assert torch.equal(both[0, 1], -both[0, 0])


def test_the_share_of_the_first_branch_is_what_was_asked_for():
    torch.manual_seed(0)
    x, y = cgml.draw_curve(2, 4000, share=0.8)
    _, branch, _ = cgml.read_curve(y, x)
    assert (branch == 0).float().mean(dim=1).sub(0.8).abs().max() < 0.03  # 4 standard errors
    assert (cgml.draw_curve(1, 50, share=1.0)[1][..., 1] >= 0).all()


def test_read_curve_tells_branch_and_phantom():
    x = torch.full((1, 3, 1), 1.0)
    y = torch.tensor([[[4.0, 4, 4], [-4, -4, -4], [0.5, 0, 0]]])
    nearest, branch, phantom = cgml.read_curve(y, x)
    assert nearest[0, :2].tolist() == [0, 0]
    assert branch[0, :2].tolist() == [0, 1]
    assert phantom.tolist() == [[False, False, True]]


def test_score_curve_on_known_answers():
    x = torch.tensor([0.1, 1.0]).repeat(4)[None, :, None]  # K = 4 answers to two inputs
    first = cgml.branches(x)[..., 0, :]
    sign = torch.tensor([1.0, 1, 1, -1]).repeat_interleave(2)[None, :, None]
    score = cgml.score_curve(sign * first, x, samples=4)
    assert score["branch_error"].item() == 0
    assert score["phantom_share"].item() == 0
    assert score["rare_branch_share"].item() == 0.25  # one of four; x = 0.1 does not count
    off = cgml.score_curve(first + torch.tensor([0.8, 0, 0]), x, samples=4)
    assert off["branch_error"].item() == pytest.approx(0.1, abs=1e-6)  # 0.8 of a range of 8


# --- Algorithm 1 ---------------------------------------------------------------------------------


def test_energy_is_the_mean_absolute_error():
    y_hat, y = torch.tensor([[1.0, 2, 3]]), torch.tensor([[0.0, 4, 3]])
    assert cgml.energy(y_hat, y).tolist() == [1.0]
    assert cgml.energy(y_hat[None, None], y[None, None], dims=2).shape == (1, 1)


class Linear(nn.Module):
    """A generator whose answer is A z."""

    def __init__(self, matrix):
        super().__init__()
        self.weight = nn.Parameter(matrix)

    def forward(self, h, z):
        return z @ self.weight.T


def test_move_latent_is_its_closed_form():
    torch.manual_seed(0)
    a = torch.randn(3, 4, dtype=torch.float64)
    z = cgml.on_sphere(torch.randn(5, 4, dtype=torch.float64))
    y = torch.randn(5, 3, dtype=torch.float64)
    moved = cgml.move_latent(Linear(a), None, z, y, beta=0.3)
    gradient = (z @ a.T - y).sign() @ a / 3
    torch.testing.assert_close(moved, F.normalize(z - 0.3 * gradient, dim=-1), rtol=0, atol=1e-12)
    uphill = F.normalize(z + 0.3 * gradient, dim=-1)
    assert not torch.allclose(moved, uphill, atol=1e-3)


def test_moving_the_latent_lowers_the_error_and_leaves_the_generator_alone(nets):
    torch.manual_seed(1)
    x, y = cgml.draw_curve(TINY.runs, 50)
    h, z = nets["encoder"](x).detach(), cgml.on_sphere(torch.randn(TINY.runs, 50, 2))
    moved = cgml.move_latent(nets["generator"], h, z, y, beta=0.05)
    assert all(p.grad is None for p in nets["generator"].parameters())
    before, after = (cgml.energy(nets["generator"](h, place), y) for place in (z, moved))
    assert (after <= before + 1e-5).float().mean() > 0.95
    assert after.mean() < before.mean()


def test_walker_losses_are_minimised_by_median_and_mean():
    z = torch.zeros(5, 2)
    ends = torch.tensor([[0.0, 0], [0, 0], [0, 0], [1, 0], [4, 0]])  # median 0, mean 1

    def best(kind):
        guess = torch.linspace(-1, 5, 601)
        losses = []
        for g in guess:
            move = torch.tensor([g, 0.0]).expand(5, 2)
            walker = lambda h, z, m=move: (m, (ends - z).norm(dim=-1, keepdim=True))  # noqa: E731
            losses.append(cgml.walker_loss(walker, None, z, ends, kind).mean())
        return guess[torch.stack(losses).argmin()].item()

    assert best("median") == pytest.approx(0, abs=0.011)
    assert best("mean") == pytest.approx(1, abs=0.011)


def test_walker_loss_sees_movement_and_length():
    z, z_next = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    right = lambda h, z: (torch.tensor([[-1.0, 1.0]]), torch.tensor([[2**0.5]]))  # noqa: E731
    assert cgml.walker_loss(right, None, z, z_next, "median").item() == pytest.approx(0, abs=1e-7)
    for move, length in (([[1.0, 1.0]], 2**0.5), ([[-1.0, 1.0]], 0.0)):
        wrong = lambda h, z, m=move, s=length: (torch.tensor(m), torch.tensor([[s]]))  # noqa: E731
        assert cgml.walker_loss(wrong, None, z, z_next, "median") > 0.4


def test_each_part_of_algorithm_1_trains_only_its_own_networks(nets):
    state = cgml.make_state(nets, 1e-2, 10)
    seen = {k: state_of(net) for k, net in nets.items()}
    z = cgml.on_sphere(torch.randn(TINY.runs, 8, 2))
    h = torch.randn(TINY.runs, 8, TINY.features)
    cgml.train_walkers(nets, state.optimizers["walkers"], h, z, z.flip(-1), TINY.runs, 0.1, 0.1)
    assert unchanged(nets["generator"], seen["generator"])
    assert unchanged(nets["encoder"], seen["encoder"])
    assert not unchanged(nets["median"], seen["median"])
    assert not unchanged(nets["mean"], seen["mean"])

    seen = {k: state_of(net) for k, net in nets.items()}
    step = cgml.cgml_step(
        nets, state.optimizers, lambda i: cgml.draw_curve(TINY.runs, 8), 2, inner=0, beta=0.5
    )
    with pytest.raises(UnboundLocalError):
        step(0)  # without a movement there is nothing to teach
    assert unchanged(nets["median"], seen["median"])


def test_a_step_of_algorithm_1_trains_everything_and_lowers_the_error():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, width=32, features=8)
    nets = cgml.networks(config)
    seen = {k: state_of(net) for k, net in nets.items()}
    state = cgml.make_state(nets, 1e-2, 200)
    step = cgml.cgml_step(
        nets, state.optimizers, lambda i: cgml.draw_curve(config.runs, 64), 2, inner=3, beta=0.9
    )
    history = [step(i)["energy"].item() for i in range(200)]
    assert not any(unchanged(nets[k], seen[k]) for k in nets)
    assert sum(history[-10:]) < 0.7 * sum(history[:10])


def test_runs_never_see_each_other(nets):
    x, _ = cgml.draw_curve(TINY.runs, 4)
    z = cgml.on_sphere(torch.randn(TINY.runs, 4, 2))
    y_hat = nets["generator"](nets["encoder"](x), z)
    y_hat[1].sum().backward()
    first, second = next(nets["encoder"].parameters()).grad
    assert first.abs().max() == 0
    assert second.abs().max() > 0


# --- the walk ------------------------------------------------------------------------------------


def constant_walker(move, length):
    return lambda h, z: (
        torch.tensor(move).expand_as(z),
        torch.full((*z.shape[:-1], 1), length),
    )


def test_without_momentum_the_walk_goes_to_the_prediction():
    z = torch.tensor([[1.0, 0.0]])
    walker = constant_walker([-0.4, 0.3], 9.0)
    free = cgml.walk(walker, None, z, 2, sphere=False)
    torch.testing.assert_close(free[:, 0], torch.tensor([[1.0, 0], [0.6, 0.3], [0.2, 0.6]]))
    back = cgml.walk(walker, None, z, 2)
    torch.testing.assert_close(back.norm(dim=-1), torch.ones(3, 1))


def test_momentum_takes_the_direction_only():
    z = torch.tensor([[1.0, 0.0]])
    for scale in (1.0, 1e-3):  # a tiny drift is walked at full speed: eq-cgml-momentum
        walker = constant_walker([-0.6 * scale, 0.8 * scale], 0.5)
        place = cgml.walk(walker, None, z, 1, alpha=0.4, sphere=False)[-1]
        torch.testing.assert_close(place, torch.tensor([[1 - 0.2 * 0.6, 0.2 * 0.8]]))


def test_no_drift_at_all_stays_and_is_finite():
    z = torch.tensor([[1.0, 0.0]])
    place = cgml.walk(constant_walker([0.0, 0.0], 0.5), None, z, 3, alpha=1.0)[-1]
    assert torch.equal(place, z)


def test_the_expectation_of_places_on_a_sphere_lies_inside():
    torch.manual_seed(0)
    ends = cgml.on_sphere(torch.randn(1000, 2))
    walker = lambda h, z: (ends.mean(0) - z, torch.ones(len(z), 1))  # noqa: E731
    z = cgml.on_sphere(torch.randn(20, 2))
    literal = cgml.walk(walker, None, z, 1, sphere=False)[-1]
    assert literal.norm(dim=-1).max() < 0.1  # the phantom of Sec. 2.2
    assert cgml.walk(walker, None, z, 1)[-1].norm(dim=-1).sub(1).abs().max() < 1e-6


def test_noise_consistency_of_a_constant_and_of_a_line():
    torch.manual_seed(0)
    h, z = torch.randn(200, 3), cgml.on_sphere(torch.randn(200, 2))
    assert cgml.noise_consistency(lambda h, z: z * 0 + 1, h, z, 0.3) == 0
    value = cgml.noise_consistency(lambda h, z: h, h, z, 0.2)
    assert value.item() == pytest.approx(0.2 * math.sqrt(2 / math.pi), rel=0.1)  # mean |normal|
    pair = cgml.noise_consistency(lambda h, z: (h, h), h, z, 0.2)
    assert pair.item() == pytest.approx(2 * value.item(), rel=0.2)


def test_the_explorers_curve_is_the_walk_of_the_first_run(nets):
    grid, stops = torch.linspace(-1, 1, 7), (0, 2, 3)
    shown = cgml.WalkingCurve(nets, "median", grid, stops, 0.5)
    z = torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
    for i, stop in enumerate(stops):
        curve = shown(z, torch.eye(3)[[i, i]])
        for b in range(2):
            x = grid[None, :, None].expand(TINY.runs, -1, -1)
            start = z[b].expand(TINY.runs, 7, 2)
            path = cgml.curve_answers(nets, "median", x, start, stop, 0.5)
            torch.testing.assert_close(curve[b], path[-1, 0], rtol=1e-4, atol=1e-4)


# --- two losses, two optima ----------------------------------------------------------------------


def two_point_value(q, share, weight):
    """eq-cgml-remark for p = (1 - q, q) and the absolute error, written out."""

    def js(a, b):
        m = (a + b) / 2
        return (a * math.log(a / m) if a else 0) + (b * math.log(b / m) if b else 0)

    distance = 2 * (q * (1 - share) + (1 - q) * share)
    return js(q, share) + js(1 - q, 1 - share) + weight * distance


def test_the_optimum_on_two_points_is_that_of_a_scan():
    weights = torch.tensor([0.0, 0.2, 0.5])
    found = cgml.best_generator(0.3, 1, weights)
    for weight, p in zip(weights.tolist(), found, strict=True):
        scan = min((two_point_value(q / 1000, 0.3, weight), q / 1000) for q in range(1001))
        assert p[30].item() == pytest.approx(scan[1], abs=0.01)


def test_the_mean_enters_at_log_two():
    weights = torch.tensor([math.log(2) - 0.1, math.log(2) + 0.1])
    between = 1 - cgml.best_generator(0.5, 2, weights, steps=2000)[:, [10, 30]].sum(1)
    assert between[0] < 0.01
    assert between[1] > 0.05


# --- completion ----------------------------------------------------------------------------------


def test_overlap_touches_the_top_half_of_a_share_only():
    torch.manual_seed(0)
    y, other = torch.full((500, 1, 8, 8), -1.0), torch.ones(500, 1, 8, 8)
    mixed = completion.overlap_top(y, other, 0.2)
    assert (mixed[..., 4:, :] == -1).all()
    top = mixed[..., :4, :].flatten(1)
    assert ((top == 1).all(1) | (top == -1).all(1)).all()
    assert (top[:, 0] == 1).float().mean().item() == pytest.approx(0.2, abs=0.08)
    assert torch.equal(completion.overlap_top(y, other, 0.0), y)


def test_masks_are_rectangles_of_the_top_half():
    torch.manual_seed(0)
    masks = completion.random_masks(300, 8)
    assert masks.shape == (300, 1, 8, 8)
    assert (masks[..., 4:, :] == 0).all()
    rows, columns = masks.amax(-1).sum(-1), masks.amax(-2).sum(-1)  # heights, widths
    assert torch.equal(rows * columns, masks.sum((-1, -2)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 4, 4, 8)


def test_the_input_does_not_leak_what_is_hidden():
    torch.manual_seed(0)
    y, mask = torch.randn(4, 1, 8, 8), completion.random_masks(4, 8)
    x = completion.as_input(y, mask)
    changed = completion.as_input(torch.where(mask > 0, 5.0, y), mask)
    assert torch.equal(x, changed)
    assert torch.equal(x[:, 32:64], y.flatten(1)[:, 32:])  # the lower half is seen


def test_boxes_are_added_and_read_back():
    torch.manual_seed(0)
    y = torch.full((2, 400, 8, 8), -1.0)
    boxed = completion.add_box(y, torch.tensor([[0.0], [0.4]]))
    value = completion.read_box(boxed.flatten(2)[..., :32], 8)  # (2, 400)
    assert (value[0] == -1).all()
    assert set(value[1].tolist()) == {-1.0, 1.0}
    assert (value[1] > 0).float().mean().item() == pytest.approx(0.4, abs=0.1)
    assert boxed[1].flatten(1).add(1).count_nonzero(1).max() == 4  # 2 x 2 pixels


def test_psnr_of_known_errors():
    values = completion.psnr(torch.tensor([4.0, 0.04]))
    torch.testing.assert_close(values, torch.tensor([0.0, 20.0]))


def test_the_paper_network_answers_and_its_operations_are_counted():
    torch.manual_seed(0)
    nets = completion.paper_networks(features=16, latent=3)
    h = nets["encoder"](torch.randn(2, 4, 128, 128))
    assert h[0].shape == (2, 16)
    assert [m.shape[-1] for m in h[1]] == [64, 32, 16, 8, 4]
    assert nets["generator"](h, torch.randn(2, 3)).shape == (2, 3, 128, 128)
    counts = completion.count_flops(16, 3, batch=1)
    widths = (4, *completion.WIDTHS)
    by_hand = sum(
        2 * 16 * a * b * (64 >> i) ** 2 for i, (a, b) in enumerate(itertools.pairwise(widths))
    )
    assert counts["encoder"] == by_hand + 2 * 16 * 512 * 16
    twice = completion.count_flops(16, 3, batch=1, steps=2)
    assert twice["walker"] == 2 * counts["walker"]


# --- spectra -------------------------------------------------------------------------------------


def test_real_harmonics_of_degree_one_are_the_coordinates():
    theta, phi, _ = spectral.sphere_grid(4)
    y = spectral.real_harmonics(1, theta, phi)
    xyz = [np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)]  # m = -1, 0, 1
    np.testing.assert_allclose(y[:, 0], (4 * np.pi) ** -0.5, atol=1e-14)
    np.testing.assert_allclose(y[:, 1:], np.stack(xyz, 1) * (3 / (4 * np.pi)) ** 0.5, atol=1e-14)


@pytest.mark.parametrize("degree", [1, 5, 12])
def test_band_limited_shapes_survive_the_round_trip(degree):
    theta, phi, weight = spectral.sphere_grid(degree)
    basis = spectral.real_harmonics(degree, theta, phi)
    spectrum = np.random.default_rng(0).normal(size=(3, (degree + 1) ** 2))
    back = (spectrum @ basis.T) @ (weight[:, None] * basis)
    assert np.abs(back - spectrum).max() < 1e-12
    coarse = spectral.sphere_grid(degree - 1)  # too few points: the test above can fail
    basis = spectral.real_harmonics(degree, *coarse[:2])
    assert np.abs((spectrum @ basis.T) @ (coarse[2][:, None] * basis) - spectrum).max() > 0.1


def test_a_mirrored_spectrum_is_the_mirrored_shape():
    theta, phi, _ = spectral.sphere_grid(6)
    m = torch.from_numpy(spectral.orders(6))
    c = torch.randn(4, 49, dtype=torch.float64)
    shape = c @ torch.from_numpy(spectral.real_harmonics(6, theta, -phi)).T
    basis = torch.from_numpy(spectral.real_harmonics(6, theta, phi))
    torch.testing.assert_close(spectral.mirror(c, m) @ basis.T, shape, rtol=0, atol=1e-12)
    assert not torch.allclose(c @ basis.T, shape)


def test_shapes_are_star_shaped_and_depend_on_the_seed_only():
    c = spectral.draw_shapes(20, 8, seed=3)
    assert torch.equal(c, spectral.draw_shapes(20, 8, seed=3))
    assert not torch.equal(c, spectral.draw_shapes(20, 8, seed=4))
    theta, phi, _ = spectral.sphere_grid(16)
    radius = c.double() @ torch.from_numpy(spectral.real_harmonics(8, theta, phi)).T
    assert radius.min() > 0.8
    assert radius.max() < 3.5


def test_kl_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_std = torch.randn(5, 3), 0.3 * torch.randn(5, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0, 1)).sum(-1)
    torch.testing.assert_close(spectral.kl_to_normal(mean, log_std), expected)


def test_scores_of_known_spectra():
    torch.manual_seed(0)
    y = torch.randn(6, 10)
    exact = torch.stack([y, y, y, -y])[None]  # K = 4, one in four is the mirror image
    score = spectral.score_spectra(exact, y)
    assert score["error"].item() == 0
    assert score["rare_share"].item() == 0.25
    assert score["map"].item() == 1
    middle = spectral.score_spectra(torch.zeros(1, 4, 6, 10), y)
    assert middle["error"].item() == pytest.approx(1, abs=1e-6)
    wrong = spectral.score_spectra(y.roll(1, 0).expand(1, 2, -1, -1), y)
    assert wrong["map"].item() <= 0.5  # its neighbour is found first
