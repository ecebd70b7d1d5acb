import dataclasses
import math

import numpy as np
import pytest
import torch
from faults import plant
from torch.nn import functional as F

from minilib import chapters, data, training
from minilib.config import ConfigError

page = chapters.load("cgml_images")
cgml = chapters.load("cgml")
SMOKE = page.PRESETS["smoke"]
TINY = SMOKE["colours"].config
HOLES = SMOKE["holes"].config
CPU = torch.device("cpu")


def built(config=TINY, seed=0):
    torch.manual_seed(seed)
    return {name: net.eval() for name, net in page.networks(config).items()}


def some(config=TINY, count=4, seed=0):
    """Inputs and answers of the right shapes."""
    torch.manual_seed(seed)
    inputs, outputs = page.channels_of(config)
    shape = config.chroma, config.chroma
    return torch.rand(count, inputs, *shape), 2 * torch.rand(count, outputs, *shape) - 1


def state_of(*nets):
    return [p.detach().clone() for net in nets for p in net.parameters()]


def same(before, *nets):
    return all(torch.equal(a, b) for a, b in zip(before, state_of(*nets), strict=True))


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [1, 2])
def test_grey_comes_back_from_its_folds(fold):
    grey = 2 * torch.rand(3, 1, 8, 8) - 1
    x = page.fold_grey(grey, fold, (40, 5))
    assert x.shape == (3, 5 * fold**2, 8 // fold, 8 // fold)
    assert torch.equal(page.unfold_grey(x, fold), grey)
    turn = 2 * math.pi * 50 * grey / 40  # L is 50 (grey + 1), and 50 / 40 of a turn is a constant
    assert torch.allclose(F.pixel_shuffle(x, fold)[:, 1:2], turn.sin(), atol=1e-5)


def test_square_holes_have_the_share_asked_for():
    torch.manual_seed(0)
    masks = page.square_masks(300, 32, 0.25, 0.25)
    assert torch.equal(masks.sum((1, 2, 3)), torch.full((300,), 256.0))
    rows = masks.amax(3).sum((1, 2))
    assert torch.equal(rows, torch.full((300,), 16.0))  # a square
    corner = page.square_masks(4000, 8, 0.25, 0.25).mean(0)
    assert corner.min() > 0  # anywhere, and more often in the middle
    assert corner[0, 4, 4] > 4 * corner[0, 0, 0]
    free = page.square_masks(500, 32, 0.05, 0.35).mean((1, 2, 3))
    assert free.min() >= 0.04
    assert free.max() <= 0.37
    assert 0.15 < free.mean() < 0.25


def test_the_centre_is_a_quarter_and_in_the_middle():
    mask = page.draw_masks("centre", 2, 16, 0, 1)
    assert mask.shape == (2, 1, 16, 16)
    assert mask.mean() == 0.25
    assert torch.equal(mask, mask.flip(2))
    assert torch.equal(mask, mask.mT)


def test_strokes_are_irregular():
    torch.manual_seed(0)
    masks = page.draw_masks("irregular", 64, 32, 0, 1)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    share = masks.mean((1, 2, 3))
    assert share.min() > 0.005  # a stroke may leave the picture
    assert share.max() < 0.7
    filled = masks.amax(3).sum((1, 2)) * masks.amax(2).sum((1, 2)) / 32**2  # their boxes
    assert (share < 0.9 * filled).float().mean() > 0.9  # no rectangles


def test_a_hole_hides_and_is_shown():
    y = torch.rand(2, 3, 8, 8) + 0.1
    x = page.with_hole(y, page.draw_masks("centre", 2, 8, 0, 1))
    assert x.shape == (2, 4, 8, 8)
    assert x[:, :3, 2:6, 2:6].abs().max() == 0
    assert torch.equal(x[:, :3, 0], y[:, :, 0])
    answer = page.as_picture(x, -torch.ones_like(y), HOLES)
    assert (answer[:, :, 2:6, 2:6] == -1).all()
    assert torch.equal(answer[:, :, 0], y[:, :, 0])  # what is known stays


@pytest.mark.parametrize("task", ["colours", "holes"])
def test_examples_of_tinytown_are_what_the_networks_take(task):
    config = SMOKE[task].config
    examples = page.open_examples("tinytown", config)
    assert len(examples) == config.scenes
    x, y = examples.read(torch.arange(3), 0)
    inputs, outputs = page.channels_of(config)
    assert x.shape == (3, inputs, config.chroma, config.chroma)
    assert y.shape == (3, outputs, config.chroma, config.chroma)
    assert y.abs().max() <= 1  # within reach of tanh
    assert page.as_picture(x, y, config).shape == (3, 3, config.size, config.size)


def test_true_colours_are_read_as_their_modes():
    greys = page.colour.tinytown_greys(20, 2, page.TOY)
    x, _ = page.colouring(greys, page.TOY).read(torch.arange(20), 0)
    first = page.as_picture(x, greys.y[:, 0], page.TOY)
    score = page.mode_scores(first[:, None], greys.layout)
    assert score["valid"] == 1
    assert score["modes_covered"] == pytest.approx(1 / 9)


def write_binary(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows.astype(np.uint8).tobytes())


def test_binary_pictures_of_stl10_and_cifar10(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96))  # (N, C, row, column)
    write_binary(tmp_path / "stl10" / "unlabeled_X.bin", picture.transpose(0, 1, 3, 2))
    config = dataclasses.replace(page.PAPER, size=96)
    found = page.open_pictures("stl10", config, held_out=False).batch(torch.tensor([1, 0]))
    assert torch.allclose((found + 1) * 127.5, torch.from_numpy(picture[::-1].copy()).float())
    assert page.open_pictures("stl10", page.PAPER, False).batch(torch.arange(1)).shape[-1] == 128
    rows = np.concatenate([np.array([[7], [2]]), picture.reshape(2, -1)[:, :3072]], axis=1)
    for i in range(1, 6):
        write_binary(tmp_path / "cifar10" / f"data_batch_{i}.bin", rows)
    pictures, classes = page.labelled("cifar10", dataclasses.replace(HOLES, size=32), "train")
    assert classes.tolist() == [7, 2] * 5
    last = pictures.batch(torch.tensor([9]))[0]
    assert torch.allclose((last.flatten() + 1) * 127.5, torch.from_numpy(rows[1, 1:]).float())
    write_binary(tmp_path / "stl10" / "unlabeled_X.bin", picture[:1, :2])
    with pytest.raises(data.DataError, match="damaged or truncated"):
        page.open_pictures("stl10", config, held_out=False)


# --- networks ------------------------------------------------------------------------------------


def test_at_128_pixels_they_are_the_networks_of_the_completion_page():
    config = page.PRESETS["full"]["celeba_hq"].config
    with torch.device("meta"):
        ours = {name: chapters.count_parameters(n) for name, n in page.networks(config).items()}
        theirs = page.completion.paper_networks(config.features, config.latent)
    wanted = {name: chapters.count_parameters(net) for name, net in theirs.items()}
    assert ours["encoder"] == wanted["encoder"]
    assert ours["generator"] == wanted["generator"]
    assert ours["median"] == wanted["walker"]
    count = page.count_operations(config, 10)
    flops = page.completion.count_flops(config.features, config.latent)
    assert count["encoder"] == flops["encoder"]
    assert count["generator"] == flops["generator"]


def test_z_reaches_every_pixel_and_the_skips_are_used():
    nets, (x, _) = built(), some()
    h = nets["encoder"](x)
    z = cgml.on_sphere(torch.randn(4, TINY.latent))
    with torch.no_grad():
        first, other = nets["generator"](h, z), nets["generator"](h, -z)
        assert ((first - other).abs().amax(1) > 0).float().mean() > 0.9
        for level in range(len(h[1])):
            blind = [torch.zeros_like(m) if i == level else m for i, m in enumerate(h[1])]
            assert not torch.equal(nets["generator"]((h[0], blind), z), first)


def test_widths_that_do_not_reach_four_pixels_are_refused():
    with pytest.raises(ConfigError, match="'widths' wants one number for each halving from 16"):
        page.networks(dataclasses.replace(TINY, widths=(4, 4, 4)))


# --- losses --------------------------------------------------------------------------------------


def test_kl_to_uniform_is_its_closed_form_and_goes_downhill_apart():
    half = torch.tensor([-0.5, 0.5]).repeat(8)[None, None]  # two inner knots of 9, a half each
    expected = math.log(8) - math.log(2)
    assert float(page.kl_to_uniform(half, 9)) == pytest.approx(expected, abs=1e-5)
    values = (0.1 * torch.randn(1, 1, 50)).requires_grad_()
    page.kl_to_uniform(values, 9).backward()
    spread = (values.grad * values).sum()
    assert spread < 0  # away from the middle is downhill


def test_soft_histogram_gives_shares_and_gradients():
    values = torch.tensor([[-1.0, -0.75, 1.0]], requires_grad=True)
    shares = page.soft_histogram(values, 5)
    assert torch.allclose(shares, torch.tensor([[0.5, 1 / 6, 0, 0, 1 / 3]]), atol=1e-6)
    shares[0, 1].backward()
    assert values.grad[0, 1] > 0


def test_the_error_of_a_picture_does_not_look_at_others():
    error = page.make_error(0.1, 9)
    _, y = some()
    y_hat = torch.rand_like(y)
    alone = torch.cat([error(y_hat[i : i + 1], y[i : i + 1]) for i in range(4)])
    assert torch.allclose(error(y_hat, y), alone, atol=1e-6)
    assert torch.allclose(page.make_error(0.0, 9)(y_hat, y), (y_hat - y).abs().mean((1, 2, 3)))


# --- training ------------------------------------------------------------------------------------


def one_step(name, config=TINY, module=page):
    nets = built(config)
    nets = {k: nets[k].train() for k in ("encoder", "generator", *module.PARTS[name])}
    state = module.make_state(nets, 1e-2, 10)
    error = module.make_error(config.uniform, config.bins)
    step = module.STEPS[name](nets, state.optimizers, lambda i: some(config), error, config)
    return nets, step


@pytest.mark.parametrize("name", ["l1", "gan", "cgml"])
def test_a_step_moves_all_of_its_networks(name):
    config = dataclasses.replace(TINY, uniform=0.01, lipschitz=0.1)
    nets, step = one_step(name, config)
    before = {k: state_of(net) for k, net in nets.items()}
    losses = step(0)
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(not same(before[k], net) for k, net in nets.items())


def test_the_walker_learns_without_touching_the_generator(monkeypatch):
    nets, step = one_step("cgml")
    monkeypatch.setattr(page, "descend_on", lambda loss, *optimizers: None)
    frozen, walker = state_of(nets["encoder"], nets["generator"]), state_of(nets["median"])
    step(0)
    assert same(frozen, nets["encoder"], nets["generator"])
    assert not same(walker, nets["median"])


def errors(module, steps=1, **changes):
    """Errors of one batch during iterations of Algorithm 1, each after z was moved."""
    _, step = one_step("cgml", dataclasses.replace(TINY, inner=3, **changes), module)
    return [float(step(i)["error"]) for i in range(steps)]


def test_z_moves_downhill_and_uphill_is_seen():
    uphill = plant("cgml_images", "z, y, c.beta, error)", "z, y, -c.beta, error)")
    still = errors(page, beta=0.0)[0]
    assert errors(page, beta=1.0)[0] < still < errors(uphill, beta=1.0)[0]


def test_training_lowers_the_error_and_a_detached_loss_is_seen():
    found = errors(page, steps=40)
    assert found[-1] < 0.95 * found[0]
    old = "loss = error(generator(h, z), y).mean()\n        total"
    detached = plant("cgml_images", old, old.replace("(h, z)", "(still, z)"))
    nets, step = one_step("cgml", TINY, detached)
    before = state_of(nets["encoder"])
    step(0)
    assert same(before, nets["encoder"])  # the encoder stands still: the fault that is looked for


def test_faults_in_walk_and_mask_are_seen():
    skipped = plant("cgml_images", "if steps else one for", "if not steps else one for")
    nets, (x, _) = built(), some()
    z = cgml.on_sphere(torch.randn(2, 4, TINY.latent))
    walked = page.answers(nets, x, z, 5, 0.5)
    assert walked.shape == (4, 2, 2, TINY.chroma, TINY.chroma)
    assert not torch.equal(walked, page.answers(nets, x, z))
    assert not torch.allclose(walked, skipped.answers(nets, x, z, 5, 0.5))
    leak = plant("cgml_images", "y * (1 - mask), mask], dim=1)", "y, mask], dim=1)")
    y, mask = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert page.with_hole(y, mask)[:, :1].abs().sum() == 0
    assert leak.with_hole(y, mask)[:, :1].abs().sum() > 0


def test_batches_and_latents_are_a_function_of_the_seed():
    examples = page.open_examples("tinytown", HOLES)
    batches = page.make_batches(examples, 4, 0, CPU)

    def batch(i):
        torch.manual_seed(training.step_seed(0, i))
        return batches(i)[0]

    assert torch.equal(batch(3), batch(3))
    assert not torch.equal(batch(3), batch(4))


# --- measuring -----------------------------------------------------------------------------------


def test_scores_of_known_pictures():
    torch.manual_seed(0)
    truth = 2 * torch.rand(2, 3, 16, 16) - 1
    far = (truth + 0.2).clamp(-2, 2)
    score = page.picture_scores(torch.stack([truth, far], dim=1), truth)
    assert score["psnr_best"] == pytest.approx(10 * math.log10(4 / 1e-8))
    second = 10 * math.log10(4 / 0.04)
    assert score["psnr_mean"] == pytest.approx((score["psnr_best"] + second) / 2, rel=1e-4)
    assert score["ssim_best"] == pytest.approx(1, abs=1e-4)
    assert score["spread"] == pytest.approx(0.2, rel=1e-4)


def test_a_linear_layer_reads_what_is_linear_and_nothing_from_noise():
    torch.manual_seed(0)
    classes = torch.arange(400) % 4
    centres = torch.randn(4, 6)
    features = 5 + centres[classes] * 3 + torch.randn(400, 6)
    train, test = slice(0, 300), slice(300, 400)
    found = page.linear_accuracy(features[train], classes[train], features[test], classes[test])
    assert found > 0.9
    noise = torch.randn(400, 6)
    assert page.linear_accuracy(noise[train], classes[train], noise[test], classes[test]) < 0.45


def test_what_the_browser_runs_is_the_walk():
    nets, (x, _) = built(), some(count=2)
    grey = 2 * torch.rand(2, 1, 32, 32) - 1
    x = page.fold_grey(grey, TINY.fold, TINY.periods)
    walking = page.Walking(nets, 3, 0.5, page.finisher(TINY)).eval()
    z = cgml.on_sphere(torch.randn(1, 2, TINY.latent))
    with torch.no_grad():
        for steps in (0, 2, 3):
            latent = torch.cat([z[0], torch.full((2, 1), float(steps))], dim=1)
            wanted = page.as_picture(x, page.answers(nets, x, z, steps, 0.5)[:, 0], TINY)
            assert torch.allclose(walking(latent, x), wanted, atol=0.02)


def test_holes_are_scored_in_the_pasted_picture():
    torch.manual_seed(0)
    y = 2 * torch.rand(3, 3, 32, 32) - 1
    z = cgml.on_sphere(torch.randn(2, 3, HOLES.latent))
    small, large = (
        page.hole_scores(built(HOLES), y, share, z, 2, 0.5, HOLES) for share in (0.1, 0.5)
    )
    assert small["psnr_mean"] > large["psnr_mean"]  # less was asked


def test_every_kind_of_task_has_a_smoke_preset_and_reads_pairs():
    kinds = {task: plan.config.kind for task, plan in SMOKE.items()}
    assert set(kinds.values()) == set(page.KINDS)
    config = SMOKE["edges"].config
    x, y = page.open_examples("tinytown", config, held_out=True).read(torch.arange(2), 0)
    assert (x.shape[1], y.shape[1]) == page.channels_of(config) == (1, 3)
    assert torch.equal(page.as_picture(x, y, config), y)


# --- along the walk ------------------------------------------------------------------------------


def test_answers_along_a_walk_are_those_after_as_many_steps():
    nets, (x, _) = built(), some()
    z = cgml.on_sphere(torch.randn(3, 4, TINY.latent))
    path = page.walk_along(nets, x, z, 6, 0.5)
    assert path.shape == (7, 3, 4, TINY.latent)
    assert torch.equal(path[0], z)
    for steps in (0, 2, 6):
        after = page.answers(nets, x, z, steps, 0.5)
        assert torch.allclose(page.answers(nets, x, path[steps]), after, atol=1e-6)


def test_a_told_latent_comes_nearer_to_its_answer():
    nets, (x, y) = built(), some()
    z = cgml.on_sphere(torch.randn(4, TINY.latent))

    def error(z):
        return float((page.answers(nets, x, z[None])[:, 0] - y).abs().mean())

    moved, length = page.told(nets, x, y, z, 1, 0.5)
    assert length == pytest.approx(float((moved - z).norm(dim=-1).mean()))
    assert error(page.told(nets, x, y, z, 5, 0.5)[0]) < error(moved) < error(z)
    away = plant(
        "cgml_images", 'generator"], h, z, y, beta, error', 'generator"], h, z, y, -beta, error'
    )
    assert error(away.told(nets, x, y, z, 5, 0.5)[0]) > error(z)
