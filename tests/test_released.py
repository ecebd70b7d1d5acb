"""Released checkpoints in our networks: names, shapes, and the same function as written out here.

The oracles beside this file compute what the released networks compute, from tensors under their
released names and with nothing of ours; for the cINN the oracle is FrEIA itself.
"""

import itertools
import json

import pytest
import torch
from FrEIA import framework, modules
from released_layouts import (
    LISTED,
    bicyclegan_encoder,
    bicyclegan_encoder_cnn,
    bicyclegan_unet,
    cinn,
    cut_heads,
    cut_patch,
    cut_resnet,
    domain_critic,
    lenet,
    patch,
    pix2pixhd,
    resnet,
    sincut_critic,
    sincut_generator,
    spade_critic,
    spade_encoder,
    spade_generator,
    swapping_encoder,
    swapping_generator,
    two_scales,
)
from released_oracles import (
    cut_oracle,
    cut_patch_oracle,
    domain_critic_oracle,
    encoder_oracle,
    lenet_oracle,
    patch_oracle,
    pix2pixhd_oracle,
    resnet_oracle,
    sincut_critic_oracle,
    sincut_oracle,
    spade_critic_oracle,
    spade_encoder_oracle,
    spade_oracle,
    swapping_encoder_oracle,
    swapping_generator_oracle,
    two_scales_oracle,
    unet_oracle,
)
from torch import nn
from torch.nn import functional as F

from minilib import chapters, released
from minilib.paths import ROOT

bicyclegan, cyclegan, spade, cinn_page, cut, swapping, cycada = (
    chapters.load(name)
    for name in (
        "bicyclegan", "cyclegan", "spade", "cinn", "cut", "swapping_autoencoder", "cycada",
    )
)  # fmt: skip
LIST = ROOT.parent / "shared" / "reference" / "checkpoint_keys.json"
NOT_LEARNED = (
    "_u", "_v", "running_mean", "running_var", "num_batches_tracked", "filt", "kernel",
)  # fmt: skip
TOLERANCE = 1e-5  # float32, two orders of summation


def binomial(name, shape):
    """A fixed filter; where it follows zeros put between the pixels, four times as strong."""
    line = torch.tensor(released.BINOMIAL[shape[-1]], dtype=torch.float32)
    widens = name.endswith(("blur.kernel", "upsample.kernel")) or shape[-2:] == (4, 4) == shape[2:]
    return (1 + 3 * widens) * (line.outer(line) / line.sum() ** 2).expand(shape).clone()


def drawn(entries, seed=0):
    """A checkpoint of these names and shapes: random values, of a size that nothing vanishes."""
    generator = torch.Generator().manual_seed(seed)
    equalised = any(name.endswith(".kernel") for name, _ in entries)  # scaled when they are used
    found = {}
    for name, shape in entries:
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
            continue
        if name.endswith((".filt", ".kernel")):
            found[name] = binomial(name, shape)
            continue
        value = torch.randn(shape, generator=generator)
        if value.dim() > 1 and not equalised:
            value = value / value[0].numel() ** 0.5
        elif value.dim() == 1:
            value = 0.3 * value
        found[name] = value.abs() + 0.5 if name.endswith("running_var") else value
    for name in [n for n in found if n.endswith("weight_u")]:
        for part in ("u", "v"):
            key = name[:-1] + part
            found[key] = F.normalize(found[key].abs(), dim=0)
    return found


# Ours beside them


def unet(width, size, upsample="transposed"):
    return bicyclegan.UNet(size, 3, 3, width, 8, upsample=upsample)


def with_dropout(width):
    """A translator as CyCADA's page builds it."""
    net = cyclegan.resnet_generator(width, 6)
    for block in [m for m in net if isinstance(m, cyclegan.ResNetBlock)]:
        block.body.insert(4, nn.Dropout(0.5))
    return net


def spade_network(which, **changes):
    """One of SPADE's networks as the full preset builds it, narrow."""
    config = spade.dataclasses.replace(
        spade.RELEASED, labels=5, height=64, width=64, features=2, hidden=6, critic_features=4,
        encoder_features=2, statistics="batch", **changes,
    )  # fmt: skip
    return spade.networks(config)[which]


def pix2pixhd_network(features, labels):
    make = spade.Layers(
        labels=labels, layout="input", statistics="instance", hidden=4, kernel=3, padding="zeros",
        spectral=True,
    )  # fmt: skip
    return spade.Pix2PixHD(make, features, 2, 3)


IMAGE = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
MAP = F.one_hot(torch.arange(2 * 64 * 64).view(2, 64, 64) // 13 % 7, 7).permute(0, 3, 1, 2).float()
Z = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
SINGLE = {"width": 2, "critic_width": 2, "size": 64}
CODES = (
    torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(3)),
    torch.randn(2, 24, generator=torch.Generator().manual_seed(4)),
)
STYLED = {"start": "latent", "encoder": True, "latent": 8}
CASES = {  # ours, names and shapes of theirs, their function, what goes in
    "bicyclegan U-Net 128": (
        lambda: unet(3, 128), bicyclegan_unet(3, 8, 7), unet_oracle, (IMAGE, Z),
    ),
    "bicyclegan U-Net 64, bilinear": (
        lambda: unet(2, 64, "bilinear"), bicyclegan_unet(2, 8, 6, up="3"), unet_oracle,
        (IMAGE[..., :64, :64], Z),
    ),
    "bicyclegan E_ResNet 128": (
        lambda: bicyclegan.make_encoder("resnet", 128, 3, 8), bicyclegan_encoder(3, 8, 3),
        encoder_oracle, (IMAGE,),
    ),
    "bicyclegan E_CNN 128": (
        lambda: bicyclegan.make_encoder("cnn", 128, 3, 8), bicyclegan_encoder_cnn(3, 8, 4),
        encoder_oracle, (IMAGE,),
    ),
    "bicyclegan D 128": (
        lambda: bicyclegan.TwoScaleCritic(3, 4, 2), two_scales(4, 2), two_scales_oracle, (IMAGE,),
    ),
    "bicyclegan D 256": (
        lambda: bicyclegan.TwoScaleCritic(3, 6, 3), two_scales(6, 3), two_scales_oracle, (IMAGE,),
    ),
    "cyclegan G, 9 blocks": (
        lambda: cyclegan.resnet_generator(3, 9), resnet(3, 9), resnet_oracle, (IMAGE,),
    ),
    "cyclegan G, 6 blocks, dropout": (
        lambda: cyclegan.resnet_generator(2, 6), resnet(2, 6, dropout=True), resnet_oracle,
        (IMAGE,),
    ),
    "cyclegan G, dropout in both": (
        lambda: with_dropout(2), resnet(2, 6, dropout=True), resnet_oracle, (IMAGE,),
    ),
    "cyclegan G, dropout in ours": (
        lambda: with_dropout(2), resnet(2, 6), resnet_oracle, (IMAGE,),
    ),
    "cyclegan D": (
        lambda: bicyclegan.patch_critic(3, 5, 3), patch(5, 3), patch_oracle, (IMAGE,),
    ),
    "spade G, from the map": (
        lambda: spade_network("generator"), spade_generator(2, 7, hidden=6), spade_oracle, (MAP,),
    ),
    "spade G, from a code": (
        lambda: spade_network("generator", **STYLED),
        spade_generator(2, 7, hidden=6, latent=8, low=(2, 2)), spade_oracle, (MAP, Z),
    ),
    "spade D": (
        lambda: spade_network("discriminator"), spade_critic(4, 10), spade_critic_oracle,
        (MAP, IMAGE[..., :64, :64]),
    ),
    "spade E": (
        lambda: spade_network("encoder", **STYLED), spade_encoder(2, 8), spade_encoder_oracle,
        (IMAGE,),
    ),
    "pix2pixHD G": (
        lambda: pix2pixhd_network(3, 7), pix2pixhd(3, 7, 2, 3), pix2pixhd_oracle, (MAP,),
    ),
    "cut G": (
        lambda: cut.resnet_pair(cut.dataclasses.replace(cut.RELEASED, width=3, blocks=9))[0],
        cut_resnet(3, 9), cut_oracle, (IMAGE,),
    ),
    "cut D": (
        lambda: cut.resnet_pair(cut.dataclasses.replace(cut.RELEASED, critic_width=4))[1],
        cut_patch(4), cut_patch_oracle, (IMAGE,),
    ),
    "sincut G": (
        lambda: cut.stylegan_pair(cut.dataclasses.replace(cut.SINGLE, **SINGLE))[0],
        sincut_generator(2), sincut_oracle, (IMAGE[..., :64, :64],),
    ),
    "sincut D": (
        lambda: cut.stylegan2.Discriminator(64, (4, 6, 8, 10, 12)),
        sincut_critic((4, 6, 8, 10, 12)), sincut_critic_oracle, (IMAGE[..., :64, :64],),
    ),
    "swapping E": (
        lambda: swapping.Encoder((3, 4, 5, 6, 7), 8, 24, (9, 11)),
        swapping_encoder((3, 4, 5, 6, 7), 8, 24, (9, 11)), swapping_encoder_oracle, (IMAGE,),
    ),
    "swapping G": (
        lambda: swapping.Generator(8, 24, (6, 9), (9, 9, 5, 4)),
        swapping_generator(8, 24, (6, 9), (9, 9, 5, 4)), swapping_generator_oracle, CODES,
    ),
    "cycada LeNet": (
        lambda: cycada.LeNet(10), lenet(), lenet_oracle, (IMAGE[:, :1, :28, :28],),
    ),
    "cycada D of scores": (
        lambda: cycada.domain_critic(19, (16, 8), maps=True, dropout=0.5),
        domain_critic(19, (16, 8)), domain_critic_oracle,
        (torch.cat([IMAGE] * 7, dim=1)[:, :19],),
    ),
}  # fmt: skip
CHAPTERS = {"sincut": "cut", "swapping": "swapping_autoencoder"}  # where it is not the first word
CASES = {
    name: case
    for name, case in CASES.items()
    if CHAPTERS.get(name.split()[0], name.split()[0]) in chapters.names()
}


def last(output):
    """Outputs as a flat list; of lists of features, the last, which is the score."""
    if isinstance(output, torch.Tensor):
        return [output]
    return [o[-1] if isinstance(o, list) else o for o in output]


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_released_network_computes_the_same_in_ours(case):
    make, entries, oracle, inputs = CASES[case]
    theirs, ours = drawn(entries), make()
    before = last(ours.eval()(*inputs))
    released.load(ours, theirs)
    after, wanted = last(ours(*inputs)), last(oracle(theirs, *inputs))
    assert len(after) == len(wanted)
    for a, b, c in zip(before, after, wanted, strict=True):
        torch.testing.assert_close(b, c, atol=TOLERANCE, rtol=TOLERANCE)
        assert b.std() > 1e-3
        assert not torch.allclose(a, c, atol=1e-2)  # the new weights matter
    learned = sum(tensor.numel() for n, tensor in theirs.items() if not n.endswith(NOT_LEARNED))
    assert learned == chapters.count_parameters(ours)


DEEP = "model." + 4 * "submodule."
SWAPS = {
    "spade G, from the map": ("head_0.norm_0.mlp_gamma", "head_0.norm_0.mlp_beta"),
    "bicyclegan U-Net 128": (f"{DEEP}down.1", f"{DEEP}submodule.down.1"),
    "cyclegan G, 9 blocks": ("model.12.conv_block.1", "model.12.conv_block.5"),
    "swapping G": ("SpatialCodeModulation.scale", "SpatialCodeModulation.bias"),
}


@pytest.mark.parametrize("name", [name for name in SWAPS if name in CASES])
@torch.no_grad()
def test_the_comparison_notices_two_tensors_that_changed_places(name):
    make, entries, oracle, inputs = CASES[name]
    theirs, (a, b) = drawn(entries), SWAPS[name]
    wrong = dict(theirs)
    wrong[f"{a}.weight"], wrong[f"{b}.weight"] = theirs[f"{b}.weight"], theirs[f"{a}.weight"]
    ours = released.load(make().eval(), wrong)(*inputs)
    assert not torch.allclose(ours, oracle(theirs, *inputs), atol=100 * TOLERANCE)


def freia(blocks, width, depth):
    """The cINN for MNIST in FrEIA; a clamp of 1 means the same before and after its change."""

    def subnet(inputs, outputs):
        wide = [inputs] + [width] * depth
        pairs = itertools.pairwise(wide)
        layers = [m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(width, outputs))

    flow = framework.SequenceINN(784)
    for k in range(blocks):
        flow.append(modules.PermuteRandom, seed=k)
        flow.append(
            modules.GLOWCouplingBlock, cond=0, cond_shape=(10,), clamp=1.0,
            subnet_constructor=subnet,
        )  # fmt: skip
    return flow


def older(state):
    """FrEIA's names of 2020: two nodes more in front, s1 for subnet1, no permutations."""
    found = {}
    for name, tensor in state.items():
        _, node, part, *rest = name.split(".")
        if part.startswith("subnet"):
            new = ".".join(["module_list", str(int(node) + 2), f"s{part[-1]}", *rest])
            found[new] = tensor
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize(("depth", "version"), [(1, "2020"), (3, "2020"), (1, "now"), (3, "now")])
@torch.no_grad()
def test_freia_computes_the_same(depth, version, dropout):
    torch.manual_seed(0)
    theirs = freia(3, 16, depth)
    for p in theirs.parameters():
        if p.is_floating_point():
            p.copy_(0.05 * torch.randn_like(p))
    config = cinn_page.dataclasses.replace(
        cinn_page.FULL, blocks=3, width=16, depth=depth, clamp=1.0, dropout=dropout
    )
    ours = cinn_page.networks(config)["cinn"].eval()
    state = theirs.state_dict()
    if version == "2020":
        state = older(state)
        assert {n: tuple(t.shape) for n, t in state.items()} == dict(cinn(3, 16, depth))
    released.load(ours, state)
    y, x = torch.rand(5, 784), cinn_page.one_hot(torch.arange(5))
    (z, log_det), (z_theirs, log_det_theirs) = ours(y, x), theirs(y, c=[x])
    torch.testing.assert_close(z, z_theirs, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(log_det, log_det_theirs, atol=1e-4, rtol=TOLERANCE)
    torch.testing.assert_close(ours.inverse(z, x), y, atol=1e-4, rtol=0)


# The real list of names


@pytest.mark.parametrize("name", LISTED)
def test_our_list_of_names_is_the_reference_list(name):
    if not LIST.exists():
        pytest.skip("the reference list of checkpoint names is not here")
    listed = json.loads(LIST.read_text())["networks"][name]
    assert LISTED[name] == [(n, tuple(shape)) for n, shape in listed]


FULL_WIDTH: dict = {  # released names at released widths, and the parameters of the release
    "bicyclegan": (bicyclegan_unet(64, 8, 8), 54_794_627),
    "bicyclegan bilinear": (bicyclegan_unet(64, 8, 8, up="3"), 39_538_435),
    "E_ResNet": (bicyclegan_encoder(64, 8, 4), 2_590_032),
    "E_CNN": (bicyclegan_encoder_cnn(64, 8, 5), 2_760_656),
    "two scales": (two_scales(64, 3), 3_458_978),
    "cyclegan": (resnet(64, 9), 11_378_179),
    "PatchGAN": (patch(64, 3), 2_764_737),
    "SPADE, COCO": (spade_generator(64, 184), 97_480_899),
    "SPADE E": (spade_encoder(64), 10_463_424),
    "SPADE D, COCO": (spade_critic(64, 187), 5_904_514),
    "pix2pixHD, COCO": (pix2pixhd(64, 184, 4, 9), 182_989_507),
    "cINN": (cinn(24, 512, 3), 54_424_320),
    "CUT": (cut_resnet(64, 9), 11_378_179),
    "CUT D": (cut_patch(64), 2_764_737),
    "CUT F": (cut_heads((3, 128, 256, 256, 256), 256), 560_384),
    "SinCUT": (sincut_generator(10), 3_068_404),
    "SinCUT D": (sincut_critic((32, 64, 128, 256, 384)), 5_885_473),
    "Swapping E": (
        swapping_encoder((32, 64, 128, 256, 512), 8, 2048, (1024, 2048)),
        30_584_872,
    ),
    "Swapping G": (swapping_generator(8, 2048, (256, 512), (512, 512, 256, 128)), 25_064_743),
    "LeNet": (lenet(), 431_080),
}


@pytest.mark.parametrize("name", FULL_WIDTH)
def test_written_out_layouts_have_the_released_numbers_of_parameters(name):
    entries, count = FULL_WIDTH[name]
    shapes = [torch.Size(shape).numel() for n, shape in entries if not n.endswith(NOT_LEARNED)]
    assert sum(shapes) == count


# What people really have on their disks


def small():
    return bicyclegan.patch_critic(3, 2, 2), drawn(patch(2, 2))


def test_statistics_that_old_pytorch_kept_for_instance_norm_are_passed_over():
    ours, theirs = small()
    for place in (3, 6):
        for what in ("running_mean", "running_var"):
            theirs[f"model.{place}.{what}"] = torch.ones(4)
    released.load(ours, theirs)
    theirs["model.1.running_mean"] = torch.ones(2)  # there is no normalisation at 1
    with pytest.raises(released.ReleasedError) as caught:
        released.load(ours, theirs)
    assert caught.value.left_over == ["model.1.running_mean"]


def test_counts_that_old_pytorch_did_not_keep_are_not_missed():
    entries = [e for e in spade_generator(2, 7, hidden=6) if "num_batches" not in e[0]]
    ours = released.load(spade_network("generator"), drawn(entries))
    assert int(ours.state_dict()["blocks.0.norms.0.normalise.num_batches_tracked"]) == 0


@pytest.mark.parametrize("wrap", ["file", "module.", "net", "part", "part."])
def test_files_prefixes_and_wrappers(wrap, tmp_path):
    ours, theirs = small()
    source, part = theirs, ""
    if wrap == "file":
        torch.save(theirs, tmp_path / "latest_net_D.pth")
        source = str(tmp_path / "latest_net_D.pth")
    elif wrap == "module.":
        source = {f"module.{n}": t for n, t in theirs.items()}
    elif wrap == "net":
        source = {"opt": {"lr": 1.0}, "net": theirs}
    else:
        source = {f"D.{n}": t for n, t in theirs.items()} | {"E.x": torch.ones(1)}
        part = wrap.replace("part", "D")
    released.load(ours, source, part)
    assert torch.equal(ours[0].weight, theirs["model.0.weight"])


def refused(source, part="", network=None):
    """The one line and the error; the network must be as it was."""
    network = network or small()[0]
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(released.ReleasedError) as caught:
        released.load(network, source, part)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_is_missing_left_over_or_of_another_shape_is_listed():
    theirs = small()[1]
    del theirs["model.5.bias"]
    theirs["model.9.weight"] = torch.ones(1)
    theirs["model.8.weight"] = torch.ones(1, 2, 4, 4)
    error = refused(theirs)
    assert error.missing == ["model.5.bias"]
    assert error.left_over == ["model.9.weight"]
    assert error.shapes == ["model.8.weight 1x2x4x4, not 1x8x4x4"]
    for words in ("PatchGAN", "missing (1): model.5.bias", "left over (1): model.9.weight"):
        assert words in str(error)


def test_long_lists_are_cut_in_the_line_and_whole_in_the_error():
    error = refused(drawn(spade_generator(2, 7)), network=cyclegan.resnet_generator(2, 9))
    assert len(error.left_over) == len(spade_generator(2, 7))
    assert f"and {len(error.left_over) - released.SHOWN} more" in str(error)


def test_another_width_is_an_error_of_shapes():
    error = refused(drawn(patch(4, 2)))
    assert not error.missing
    assert not error.left_over
    assert len(error.shapes) == 7  # all but the bias of the one score


def test_a_learned_kernel_is_not_taken_for_a_blur():
    ours, theirs = small()
    blur = torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1])) / 16
    theirs["model.7.filt"] = blur.expand(4, 1, 3, 3)
    released.load(ours, theirs)
    theirs["model.7.filt"] = theirs["model.7.filt"].clone()
    theirs["model.7.filt"][0, 0, 0, 0] += 0.01
    assert refused(theirs).left_over == ["model.7.filt"]


@pytest.mark.parametrize(
    ("source", "part", "words"),
    [
        ("nowhere.pth", "", "no file 'nowhere.pth'"),
        (__file__, "", "is not a checkpoint"),
        ({}, "", "holds no tensors"),
        ({"epoch": 3}, "", "'epoch' is not a tensor"),
        ({"E.a": torch.ones(1), "G.b": torch.ones(1)}, "D", "no part 'D'; it has: E, G"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(source, part, words):
    assert words in str(refused(source, part))
