"""Tinytown: drawn the same way each time, and read back without a mistake."""

import hashlib
import itertools
import time

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from minilib import tinytown
from minilib.config import ConfigError

N = 540  # a multiple of nine


@pytest.fixture(scope="module", params=[32, 64])
def town(request: pytest.FixtureRequest) -> tuple[Tensor, tinytown.Styles, Tensor]:
    """Layouts, styles (each mode equally often) and pictures."""
    layouts = tinytown.layouts(N, seed=11, size=request.param)
    styles = tinytown.styles(N, seed=12).with_mode(torch.arange(N) % 9)
    return layouts, styles, tinytown.render(layouts, styles)


def noisy(images: Tensor, sigma: float) -> Tensor:
    return images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(5))


def test_pictures_have_the_promised_shape_and_range(town):
    layouts, _, images = town
    assert layouts.dtype == torch.int64
    assert images.dtype == torch.float32
    assert images.shape == (N, 3, *layouts.shape[1:])
    assert images.min() >= -1
    assert images.max() <= 1
    assert images.std() > 0.3


def test_every_label_is_common_enough_to_learn(town):
    share = tinytown.one_hot(town[0]).mean((0, 2, 3))
    assert len(share) == len(tinytown.LABELS)
    assert share.min() > 0.008


def test_time_and_season_are_read_back_from_every_picture(town):
    layouts, styles, images = town
    mode, distance = tinytown.read_mode(images, layouts)
    assert torch.equal(mode, styles.mode)
    assert distance.max() < 0.5 * tinytown.TOLERANCE
    assert torch.equal(tinytown.mode_of_sample(images, layouts), styles.mode)


def test_time_and_season_are_read_back_without_the_layout(town):
    _, styles, images = town
    assert torch.equal(tinytown.read_style(images)[0], styles.mode)


def test_layout_is_read_back_from_every_picture(town):
    layouts, _, images = town
    agreement = (tinytown.read_layout(images) == layouts).float().mean((1, 2))
    assert agreement.min() >= 0.9
    assert agreement.mean() >= 0.97


def test_a_little_noise_changes_no_mode(town):
    layouts, styles, images = town
    counted = tinytown.mode_of_sample(noisy(images[:270], 0.05), layouts[:270])
    assert torch.equal(counted, styles.mode[:270])


def test_heavy_noise_and_other_layouts_count_towards_no_mode(town):
    layouts, images = town[0][:100], town[2][:100]
    assert (tinytown.mode_of_sample(noisy(images, 0.6), layouts) == -1).all()
    flipped = layouts.flip(1)  # the road in the sky
    assert (tinytown.mode_of_sample(images, flipped) == -1).all()


def test_right_colours_in_the_wrong_place_count_towards_no_mode(town):
    """Strong noise that leaves every region's mean as it was: only the labels can tell."""
    layouts, styles, images = town[0][:100], town[1][:100], town[2][:100]
    member = tinytown.one_hot(layouts)[:, :, None]  # (n, L, 1, H, W)
    noise = 0.7 * torch.sign(noisy(torch.zeros_like(images), 1.0))
    mean = (noise[:, None] * member).sum((3, 4)) / member.sum((3, 4)).clamp(min=1)  # (n, L, 3)
    wrong = images + noise - (mean[..., None, None] * member).sum(1)
    assert torch.equal(tinytown.read_mode(wrong, layouts)[0], styles.mode)
    assert (tinytown.mode_of_sample(wrong, layouts) == -1).all()


def test_the_average_of_two_modes_counts_towards_none():
    layouts = tinytown.layouts(30, seed=21, size=32)
    styles = tinytown.styles(30, seed=22)
    pictures = [tinytown.render(layouts, styles.with_mode(mode)) for mode in range(9)]
    for one, other in itertools.combinations(pictures, 2):
        assert (tinytown.read_mode((one + other) / 2, layouts)[0] == -1).all()
    mean_of_all = torch.stack(pictures).mean(0)
    assert (tinytown.mode_of_sample(mean_of_all, layouts) == -1).all()


def test_agreement_falls_steadily_as_a_picture_is_blurred():
    layouts = tinytown.layouts(100, seed=31, size=32)
    images = tinytown.render(layouts, tinytown.styles(100, seed=32))
    shares = []
    for size in (1, 3, 5, 9, 17):
        padded = torch.nn.functional.pad(images, (size // 2,) * 4, mode="replicate")
        blurred = torch.nn.functional.avg_pool2d(padded, size, 1)
        shares.append(float(tinytown.layout_agreement(blurred, layouts).mean()))
    assert all(a > b for a, b in itertools.pairwise(shares)), shares
    assert shares[1] > 0.6 > shares[-1] > 0.2


@pytest.mark.parametrize("size", [32, 64])
def test_colour_modes_are_read_back_from_every_picture(size):
    layouts, styles = tinytown.layouts(N, seed=41, size=size), tinytown.styles(N, seed=42)
    images = tinytown.render(layouts, styles, palette="isoluminant")
    assert torch.equal(tinytown.read_colour_mode(images, layouts)[0], styles.colour)
    images, layouts, colour = noisy(images[:100], 0.05), layouts[:100], styles.colour[:100]
    assert torch.equal(tinytown.mode_of_sample(images, layouts, "isoluminant"), colour)


def test_colour_mode_and_layout_are_read_back_from_the_picture_alone():
    layouts, styles = tinytown.layouts(100, seed=43, size=32), tinytown.styles(100, seed=44)
    images = tinytown.render(layouts, styles, palette="isoluminant")
    assert torch.equal(tinytown.read_style(images, "isoluminant")[0], styles.colour)
    back = tinytown.read_layout(images, palette="isoluminant")
    assert (back == layouts).float().mean((1, 2)).min() >= 0.95


def test_the_average_of_two_colour_modes_counts_towards_none():
    layouts = tinytown.layouts(40, seed=51, size=32)
    styles = tinytown.styles(40, seed=52)
    pictures = [
        tinytown.render(layouts, styles.with_colour(mode), palette="isoluminant")
        for mode in range(9)
    ]
    for one, other in itertools.combinations(pictures, 2):
        assert (tinytown.read_colour_mode((one + other) / 2, layouts)[0] == -1).all()


def test_all_colour_modes_of_a_layout_share_one_grey():
    layouts, styles = tinytown.layouts(20, seed=61), tinytown.styles(20, seed=62)
    images = torch.stack(
        [tinytown.render(layouts, styles.with_colour(k), "isoluminant") for k in range(9)]
    )
    lab = rgb2lab(((images.double() + 1) / 2).movedim(2, -1).numpy())  # (9, 20, H, W, 3)
    assert np.ptp(lab[..., 0], axis=0).max() < 0.5  # L runs from 0 to 100
    assert np.ptp(lab[..., 1:], axis=0).max(axis=(1, 2)).min() > 40  # while a and b differ
    assert lab[..., 0].std() > 10


def test_an_exact_sampler_scores_as_the_design_says():
    layouts = tinytown.layouts(30, seed=71, size=32)
    repeated = layouts.repeat_interleave(32, 0)
    images = tinytown.render(repeated, tinytown.styles(30 * 32, seed=72))
    mode = tinytown.mode_of_sample(images, repeated).view(30, 32)
    covered = np.mean([len(set(row) - {-1}) for row in mode.tolist()])
    expected = 9 * (1 - (8 / 9) ** 32)  # 8.79
    spread = 0.43 / 30**0.5  # standard deviation of the count, over the root of the inputs
    assert abs(covered - expected) < 4 * spread


def test_the_same_seed_gives_the_same_bytes():
    def digest(seed: int) -> str:
        layouts = tinytown.layouts(30, seed, 32)
        images = tinytown.render(layouts, tinytown.styles(30, seed))
        return hashlib.sha256(layouts.numpy().tobytes() + images.numpy().tobytes()).hexdigest()

    torch.manual_seed(0)
    first = digest(7)
    torch.rand(3)  # the global generator plays no part
    assert digest(7) == first
    assert digest(8) != first


@pytest.mark.parametrize("few", [1, 5, 129])
def test_the_first_scenes_are_the_same_whatever_their_number(few):
    layouts, styles = tinytown.layouts(150, seed=3, size=32), tinytown.styles(150, seed=3)
    assert torch.equal(tinytown.layouts(few, seed=3, size=32), layouts[:few])
    assert torch.equal(tinytown.styles(few, seed=3).sun, styles.sun[:few])
    assert torch.equal(tinytown.styles(few, seed=3).mode, styles.mode[:few])
    images = tinytown.render(layouts, styles)
    assert torch.equal(tinytown.render(layouts[:few], styles[:few]), images[:few])


def test_a_scene_is_the_same_scene_at_every_size():
    small, large = (tinytown.layouts(50, seed=4, size=size) for size in (32, 64))
    enlarged = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert (enlarged == large).float().mean() > 0.9


def test_shares_set_how_often_each_mode_comes():
    shares = torch.tensor([0.2, 0.2, 0.0, 0.2, 0.2, 0.1, 0.05, 0.025, 0.025])
    mode = tinytown.styles(20000, seed=5, shares=shares).mode
    found = torch.bincount(mode, minlength=9) / 20000
    assert found[2] == 0
    assert (found - shares).abs().max() < 0.015  # five standard deviations
    uniform = torch.bincount(tinytown.styles(20000, seed=6).mode, minlength=9) / 20000
    assert (uniform - 1 / 9).abs().max() < 0.012


def test_without_hue_there_are_nine_styles():
    layout = tinytown.layouts(1, seed=8, size=32).expand(200, -1, -1)
    images = tinytown.render(layout, tinytown.styles(200, seed=9, hue=False))
    assert len(images.flatten(1).unique(dim=0)) == 9


def test_every_nuisance_shows_and_none_changes_the_mode():
    layouts = tinytown.layouts(40, seed=13, size=32)
    middle = tinytown.style_of_mode(torch.zeros(40, dtype=torch.int64))
    plain = tinytown.render(layouts, middle)
    for name in tinytown.NUISANCES:
        values = {key: getattr(middle, key) for key in middle.__slots__}
        values[name] = torch.ones(40)
        changed = tinytown.render(layouts, tinytown.Styles(**values))
        assert (changed != plain).any(), name
        assert (tinytown.mode_of_sample(changed, layouts) == 0).all(), name


def test_one_style_serves_many_layouts():
    layouts = tinytown.layouts(5, seed=14, size=32)
    many = tinytown.render(layouts, tinytown.style_of_mode(torch.full((5,), 4)))
    assert torch.equal(tinytown.render(layouts, tinytown.style_of_mode(4)), many)


def test_mode_names_follow_the_index():
    style = tinytown.style_of_mode(torch.arange(9))
    for k, name in enumerate(tinytown.MODE_NAMES):
        time_name, season = tinytown.TIMES[style.time[k]], tinytown.SEASONS[style.season[k]]
        assert (name, tinytown.MODES[k]) == (f"{season} {time_name}", (time_name, season))
    assert torch.equal(style.mode, torch.arange(9))


def test_edges_are_ink_where_the_label_changes():
    layout = torch.zeros(1, 4, 4, dtype=torch.int64)
    layout[:, :, 2:] = 1
    expected = torch.ones(1, 1, 4, 4)
    expected[..., 1] = -1
    assert torch.equal(tinytown.edges(layout), expected)
    assert torch.equal(tinytown.edges(layout.mT), expected.mT)


def test_one_hot_and_drawn_layouts_lead_back_to_the_labels():
    layouts = tinytown.layouts(3, seed=15, size=32)
    assert torch.equal(tinytown.one_hot(layouts).argmax(1), layouts)
    drawn = (tinytown.draw_layout(layouts).movedim(1, -1) + 1) / 2  # (3, 32, 32, 3)
    gap = (drawn[..., None, :] - tinytown.LABEL_COLOURS).abs().sum(-1)
    assert torch.equal(gap.argmin(-1), layouts)


def test_any_painted_layout_can_be_rendered():
    painted = torch.randint(0, 10, (4, 48, 80), generator=torch.Generator().manual_seed(1))
    images = tinytown.render(painted, tinytown.style_of_mode(6))
    assert images.shape == (4, 3, 48, 80)
    assert images.isfinite().all()
    one_label = torch.full((1, 16, 16), 5)
    assert tinytown.mode_of_sample(
        tinytown.render(one_label, tinytown.style_of_mode(1)), one_label
    ).tolist() == [1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tinytown.layouts(1, 0, 40), "multiple of 16, not 40"),
        (lambda: tinytown.layouts(1, 0, 0), "multiple of 16, not 0"),
        (lambda: tinytown.layouts(-1, 0), "n >= 0"),
        (lambda: tinytown.styles(2, -1), "seed >= 0"),
        (lambda: tinytown.styles(2, 0, shares=[1.0] * 8), "nine non-negative"),
        (lambda: tinytown.styles(2, 0, shares=[0.0] * 9), "nine non-negative"),
        (lambda: tinytown.styles(2, 0, shares=[float("nan")] * 9), "nine non-negative"),
        (lambda: tinytown.style_of_mode(9), "mode is 0 to 8"),
        (lambda: tinytown.style_of_colour(-1), "colour mode is 0 to 8"),
        (
            lambda: tinytown.render(
                tinytown.layouts(1, 0, 16), tinytown.style_of_mode(0), "isoluminent"
            ),
            "did you mean 'isoluminant'",
        ),
        (
            lambda: tinytown.render(tinytown.layouts(3, 0, 16), tinytown.styles(2, 0)),
            "3 layouts, 2 styles",
        ),
        (
            lambda: tinytown.read_mode(torch.zeros(2, 3, 16, 16), tinytown.layouts(3, 0, 16)),
            "do not belong together",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(call, words):
    with pytest.raises(ConfigError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_drawing_two_thousand_scenes_is_quick():
    """Processor seconds, not wall-clock: other work on the machine does not count."""
    start = time.process_time()
    layouts = tinytown.layouts(500, seed=1, size=64)
    tinytown.render(layouts, tinytown.styles(500, seed=1))
    assert 4 * (time.process_time() - start) < 10  # 5 s on two cores
