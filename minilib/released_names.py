"""What the released code calls the tensors of our networks, one layout a family of networks.

A layout turns one of our names into the released one; "" where the release has nothing like it.
It may need to know how deep the network is: that is read off the names on both sides.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Rename = Callable[[str], str]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def nothing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the network is loaded under its own name."""
    return {}


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family of released networks is named.

    Args:
        title: the family, in words.
        names: (our names, their names) -> the renaming.
        computed: (our tensors, theirs) -> {our name: tensor} of what is not saved under one name.
        read: pattern of their names that ``computed`` reads.
    """

    title: str
    names: Callable[[Sequence[str], Sequence[str]], Rename]
    computed: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]] = nothing
    read: str = "(?!)"


SPECTRAL = {  # of PyTorch's parametrizations, and of its older hooks, which the releases used
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def by_rules(*rules: Rule) -> Rename:
    """A renaming by the first pattern that fits a whole name; "" where none does."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]

    def rename(name: str) -> str:
        for new, old in SPECTRAL.items():
            name = name.replace(new, old)
        for pattern, target in compiled:
            match = pattern.fullmatch(name)
            if match:
                return match.expand(target) if isinstance(target, str) else target(match)
        return ""

    return rename


def largest(pattern: str, names: Sequence[str]) -> int:
    """One more than the largest number that a pattern's group finds at the start of names."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def bicyclegan_unet(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """BicycleGAN's generator: levels nested as ``submodule`` in one another."""

    def level(match: re.Match[str], path: str) -> str:
        return "model." + "submodule." * int(match[1]) + match.expand(path)

    return by_rules(
        (r"downs\.(\d+)\.(\d+)\.(.+)", lambda m: level(m, r"down.\2.\3")),
        (r"ups\.(\d+)\.1\.2\.(.+)", lambda m: level(m, r"up.3.\2")),  # bilinear, then a 3x3
        (r"ups\.(\d+)\.(\d+)\.(.+)", lambda m: level(m, r"up.\2.\3")),
    )


def bicyclegan_encoder(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """BicycleGAN's E_ResNet and E_CNN."""
    return by_rules(
        (r"trunk\.(\d+)\.body\.5\.(.+)", r"conv.\1.conv.5.0.\2"),
        (r"trunk\.(\d+)\.body\.(.+)", r"conv.\1.conv.\2"),
        (r"trunk\.(.+)", r"conv.\1"),
        (r"mean\.(.+)", r"fc.0.\1"),
        (r"log_variance\.(.+)", r"fcVar.0.\1"),
    )


def bicyclegan_critic(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """BicycleGAN's discriminator at two scales."""
    return by_rules((r"scales\.(\d+)\.(\d+\..+)", r"model_\1.\2"))


def resnet(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """CycleGAN's and CUT's translators and PatchGANs: one numbered list.

    With dropout (as CyCADA trains them) the second half of a block stands one further down; a
    checkpoint with it fits a network without it, and the other way round.
    """
    shift = _dropout(theirs, "conv_block") - _dropout(ours, "body")

    def block(match: re.Match[str]) -> str:
        place = int(match[2])
        return f"model.{match[1]}.conv_block.{place + shift * (place > 3)}.{match[3]}"

    return by_rules(
        (r"(?:net\.)?(\d+)\.body\.(\d+)\.(.+)", block),
        (r"(?:net\.)?(\d+\.[^.]+)", r"model.\1"),
    )


def _dropout(names: Sequence[str], block: str) -> bool:
    """Whether the blocks of a translator hold dropout between their convolutions."""
    return any(name.endswith(f".{block}.6.weight") for name in names)


def spade_generator(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """SPADE's generator, grown from the map or from a code."""

    def block(match: re.Match[str]) -> str:
        k = int(match[1])
        head = ("head_0", "G_middle_0", "G_middle_1")[k] if k < 3 else f"up_{k - 3}"
        return f"{head}.{inner(match[2])}"

    inner = by_rules(
        (r"convs\.(\d)\.(.+)", r"conv_\1.\2"),
        (r"shortcut\.(.+)", r"conv_s.\1"),
        (r"norms\.(\d)\.(.+)", lambda m: f"norm_{m[1]}.{modulation(m[2])}"),
        (r"norm_shortcut\.(.+)", lambda m: f"norm_s.{modulation(m[1])}"),
    )
    modulation = by_rules(
        (r"normalise\.(.+)", r"param_free_norm.\1"),
        (r"embed\.(.+)", r"mlp_shared.0.\1"),
        (r"(gamma|beta)\.(.+)", r"mlp_\1.\2"),
    )
    return by_rules(
        (r"start\.(.+)", r"fc.\1"),
        (r"blocks\.(\d+)\.(.+)", block),
        (r"colour\.(.+)", r"conv_img.\1"),
    )


def spade_critic(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """SPADE's discriminators; pix2pixHD's have the same names."""
    return by_rules(
        (r"scales\.(\d+)\.0\.(.+)", r"discriminator_\1.model0.\2"),
        (r"scales\.(\d+)\.(\d+)\.(\d+\..+)", r"discriminator_\1.model\2.0.\3"),
        (r"scales\.(\d+)\.(\d+)\.([^.]+)", r"discriminator_\1.model\2.0.\3"),
    )


def spade_encoder(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """SPADE's style encoder: convolution, normalisation and leaky ReLU take turns."""

    def layer(match: re.Match[str]) -> str:
        stage, place = divmod(int(match[1]), 3)
        return f"layer{stage + 1}.{place}.{match[2]}"

    return by_rules(
        (r"trunk\.(\d+)\.(.+)", layer),
        (r"mean\.(.+)", r"fc_mu.\1"),
        (r"log_variance\.(.+)", r"fc_var.\1"),
    )


def pix2pixhd(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """pix2pixHD's global generator as SPADE's code has it, with spectral normalisation."""
    downs = largest(r"down\.(\d+)\.", ours)
    blocks = largest(r"middle\.(\d+)\.", ours)
    up = 3 + 2 * downs + blocks  # where the doublings begin

    def at(place: int, match: re.Match[str], part: str) -> str:
        end = "0" if match["part"] == "conv" else "1"
        return f"model.{place}.{part}{end}.{match['rest']}"

    last = r"\.(?P<part>conv|norm\.normalise)\.(?P<rest>.+)"
    return by_rules(
        (r"first" + last, lambda m: at(1, m, "")),
        (r"down\.(\d+)" + last, lambda m: at(3 + 2 * int(m[1]), m, "")),
        (
            r"middle\.(\d+)\.([01])" + last,
            lambda m: at(3 + 2 * downs + int(m[1]), m, f"conv_block.{1 + 3 * int(m[2])}."),
        ),
        (r"up\.(\d+)" + last, lambda m: at(up + 2 * int(m[1]), m, "")),
        (r"colour\.(.+)", lambda m: f"model.{up + 2 * downs + 1}.{m[1]}"),
    )


def cut_heads(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """CUT's heads, one small network for each compared layer."""
    return by_rules((r"each\.(\d+)\.(.+)", r"mlp_\1.\2"))


def sincut_generator(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """SinCUT's generator: one chain of ours is an encoder and a decoder there."""
    encoder = largest(r"encoder\.convs\.(\d+)\.", theirs)

    def layer(match: re.Match[str]) -> str:
        k = int(match[1])
        part = f"encoder.convs.{k}" if k < encoder else f"decoder.convs.{k - encoder}"
        return f"{part}.{match[2]}"

    return by_rules((r"net\.(\d+)\.(.+)", layer))


def same(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """Parts with the released names: SinCUT's discriminator, CyCADA's classifiers."""
    return by_rules((r".+", lambda m: m.group()))


def domain_critic(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """CyCADA's discriminator of features."""
    return by_rules((r"(\d+\.[^.]+)", r"D.\1"))


def swapping_encoder(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """The Swapping Autoencoder's encoder: layers are named by how far they have halved."""
    halvings = largest(r"down\.(\d+)\.", ours) - 1

    def layer(path: str, match: re.Match[str]) -> str:
        return f"{path}.{_part(match[0], ours)}"

    return by_rules(
        (r"down\.0\..+", lambda m: layer("FromRGB", m)),
        (
            r"down\.(\d+)\.(conv1|conv2|skip)\..+",
            lambda m: layer(f"DownToSpatialCode.ResBlockDownBy{2 ** (int(m[1]) - 1)}.{m[2]}", m),
        ),
        (r"to_structure\.(\d+)\..+", lambda m: layer(f"ToSpatialCode.{m[1]}", m)),
        (
            r"texture_down\.(\d+)\..+",
            lambda m: layer(f"DownToGlobalCode.ConvLayerDownBy{2 ** (halvings + int(m[1]))}", m),
        ),
        (r"to_texture\.(.+)", r"ToGlobalCode.0.\1"),
    )


def _part(name: str, ours: Sequence[str]) -> str:
    """Where a tensor of a ``ConvLayer`` stands: Conv.weight, Conv.bias, or Act.bias."""
    layer, _, kind = name.rpartition(".")
    return f"Conv.{kind}" if f"{layer}.weight" in ours else f"Act.{kind}"


def swapping_generator(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """The Swapping Autoencoder's generator: blocks at the structure's size, then doublings."""
    heads = largest(r"HeadResnetBlock(\d+)\.", theirs)
    found = {int(m[1]) for name in theirs if (m := re.match(r"UpsamplingResBlock(\d+)\.", name))}
    doublings = sorted(found)

    def block(match: re.Match[str]) -> str:
        k = int(match[1])
        if k < heads:
            head = f"HeadResnetBlock{k}"
        else:
            head = f"UpsamplingResBlock{[*doublings, *[0] * (k + 1)][k - heads]}"
        inside = match[2]
        if inside.startswith("skip."):
            inside = f"skip.{_part(match[0], ours)}"
        return f"{head}.{inside}"

    return by_rules(
        (r"scale\.(.+)", r"SpatialCodeModulation.scale.\1"),
        (r"shift\.(.+)", r"SpatialCodeModulation.bias.\1"),
        (r"blocks\.(\d+)\.(.+)", block),
        (r"to_rgb\.(.+)", r"ToRGB.conv.\1"),
        (r"bias", "ToRGB.bias"),
    )


COUPLING = r".*?module_list\.(\d+)(?=\.(s|subnet)1\.)"  # in FrEIA of 2020, and since


def cinn(ours: Sequence[str], theirs: Sequence[str]) -> Rename:
    """The cINN for MNIST in FrEIA: couplings among permutations in one list of modules."""
    nodes = {int(m[1]): m for name in theirs if (m := re.match(COUPLING, name))}
    order = [f"{nodes[k].group()}.{nodes[k][2]}" for k in sorted(nodes)]
    places = {int(m[1]) for name in ours if (m := re.search(r"\.subnet1\.(\d+)\.weight", name))}
    ordinal = {place: 2 * k for k, place in enumerate(sorted(places))}  # dropout has no place there

    def layer(match: re.Match[str]) -> str:
        k, place = int(match[1]), int(match[3])
        node = order[k] if k < len(order) else f"module_list.{2 * k + 3}.s"
        return f"{node}{match[2]}.{ordinal.get(place, place)}.{match[4]}"

    return by_rules((r"couplings\.(\d+)\.subnet([12])\.(\d+)\.(.+)", layer))


def freia_orders(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """FrEIA's permutations before the couplings.

    Newer versions save them; in older ones NumPy draws them again from the seeds 0, 1, 2, ...
    """
    if "orders" not in ours:
        return {}
    blocks, features = ours["orders"].shape
    saved = {int(name.split(".")[-2]): t for name, t in theirs.items() if name.endswith(".perm")}
    if saved:
        orders = torch.stack([saved[k] for k in sorted(saved)]).long()  # (blocks, D)
    else:
        drawn = [np.random.RandomState(seed).permutation(features) for seed in range(blocks)]
        orders = torch.from_numpy(np.stack(drawn)).long()
    return {"orders": orders, "inverse_orders": orders.argsort(dim=1)}


LAYOUTS = (
    Layout("BicycleGAN's generator", bicyclegan_unet),
    Layout("BicycleGAN's encoder", bicyclegan_encoder),
    Layout("BicycleGAN's discriminator", bicyclegan_critic),
    Layout("CycleGAN's or CUT's translator or PatchGAN", resnet),
    Layout("SPADE's generator", spade_generator),
    Layout("SPADE's discriminator", spade_critic),
    Layout("SPADE's encoder", spade_encoder),
    Layout("pix2pixHD's generator", pix2pixhd),
    Layout("CUT's heads", cut_heads),
    Layout("SinCUT's generator", sincut_generator),
    Layout("SinCUT's discriminator, or CyCADA's classifier", same),
    Layout("CyCADA's discriminator", domain_critic),
    Layout("the Swapping Autoencoder's encoder", swapping_encoder),
    Layout("the Swapping Autoencoder's generator", swapping_generator),
    Layout("cINN for MNIST (FrEIA)", cinn, freia_orders, r".*\.(perm|perm_inv)"),
)
