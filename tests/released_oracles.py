"""What the released networks compute, from tensors under their released names and nothing of ours.

For ``test_released.py``: each oracle takes a state dict and the inputs.
"""

import math

import torch
from torch.nn import functional as F


def weight(t, name):
    """A weight, divided by its estimated singular value where it is spectrally normalised."""
    if f"{name}.weight" in t:
        return t[f"{name}.weight"]
    w, u, v = (t[f"{name}.weight_{part}"] for part in ("orig", "u", "v"))
    flat = w.flatten(1) if len(u) == len(w) else w.transpose(0, 1).flatten(1)
    return w / (u @ flat @ v)


def conv(t, name, h, stride=1, padding=0):
    return F.conv2d(h, weight(t, name), t.get(f"{name}.bias"), stride=stride, padding=padding)


def wide(t, name, h, **options):
    return F.conv_transpose2d(h, weight(t, name), t.get(f"{name}.bias"), stride=2, **options)


def mirror(h, by):
    return F.pad(h, (by,) * 4, mode="reflect")


def leaky(h):
    return F.leaky_relu(h, 0.2)


def unet_oracle(t, x, z, path="model.", first=True):
    h = torch.cat([x, z[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
    h = conv(t, f"{path}down.{int(not first)}", h if first else leaky(h), 2, 1)
    if any(name.startswith(f"{path}submodule") for name in t):
        h = unet_oracle(t, h if first else F.instance_norm(h), z, f"{path}submodule.", False)
    h = h.relu()
    if f"{path}up.3.weight" in t:
        twice = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
        h = conv(t, f"{path}up.3", mirror(twice, 1))
    else:
        h = wide(t, f"{path}up.1", h, padding=1)
    return h.tanh() if first else torch.cat([F.instance_norm(h), x], dim=1)


def encoder_oracle(t, y):
    h, k = conv(t, "conv.0", y, 2, 1), 1
    while f"conv.{k}.shortcut.1.weight" in t:
        a = conv(t, f"conv.{k}.conv.2", leaky(F.instance_norm(h)), padding=1)
        a = conv(t, f"conv.{k}.conv.5.0", leaky(F.instance_norm(a)), padding=1)
        h = F.avg_pool2d(a, 2) + conv(t, f"conv.{k}.shortcut.1", F.avg_pool2d(h, 2))
        k += 1
    h = leaky(h)
    while (place := f"conv.{3 * k - 1}") + ".weight" in t:  # E_CNN
        h, k = leaky(F.instance_norm(conv(t, place, h, 2, 1))), k + 1
    h = F.avg_pool2d(h, 8).flatten(1)
    return [F.linear(h, t[f"{n}.0.weight"], t[f"{n}.0.bias"]) for n in ("fc", "fcVar")]


def patch_oracle(t, y, start="model"):
    places = sorted(int(n.split(".")[1]) for n in t if n.startswith(f"{start}.") and "weight" in n)
    h = leaky(conv(t, f"{start}.0", y, 2, 1))
    for place in places[1:-2]:
        h = leaky(F.instance_norm(conv(t, f"{start}.{place}", h, 2, 1)))
    h = leaky(F.instance_norm(conv(t, f"{start}.{places[-2]}", h, 1, 1)))
    return conv(t, f"{start}.{places[-1]}", h, 1, 1)


def two_scales_oracle(t, y):
    half = F.avg_pool2d(y, 3, 2, 1, count_include_pad=False)
    return [patch_oracle(t, y, "model_0"), patch_oracle(t, half, "model_1")]


def resnet_oracle(t, x):
    places = sorted({int(name.split(".")[1]) for name in t})
    blocks = [k for k in places if any(n.startswith(f"model.{k}.conv_block") for n in t)]
    h = F.instance_norm(conv(t, "model.1", mirror(x, 3))).relu()
    for place in ("4", "7"):
        h = F.instance_norm(conv(t, f"model.{place}", h, 2, 1)).relu()
    for k in blocks:
        parts = sorted({int(n.split(".")[3]) for n in t if n.startswith(f"model.{k}.")})
        a = F.instance_norm(conv(t, f"model.{k}.conv_block.{parts[0]}", mirror(h, 1))).relu()
        h = h + F.instance_norm(conv(t, f"model.{k}.conv_block.{parts[1]}", mirror(a, 1)))
    for place in places[-3:-1]:
        h = F.instance_norm(wide(t, f"model.{place}", h, padding=1, output_padding=1)).relu()
    return conv(t, f"model.{places[-1]}", mirror(h, 3)).tanh()


def spade_norm(t, name, h, x):
    mean, var = (t[f"{name}.param_free_norm.running_{s}"] for s in ("mean", "var"))
    x = F.interpolate(x, size=h.shape[2:], mode="nearest")
    e = conv(t, f"{name}.mlp_shared.0", x, padding=1).relu()
    scale, shift = (conv(t, f"{name}.mlp_{s}", e, padding=1) for s in ("gamma", "beta"))
    return F.batch_norm(h, mean, var) * (1 + scale) + shift


def spade_oracle(t, x, z=None, low=(2, 2)):
    if z is None:
        h = conv(t, "fc", F.interpolate(x, size=low, mode="nearest"), padding=1)
    else:
        h = F.linear(z, t["fc.weight"], t["fc.bias"]).view(len(z), -1, *low)
    names = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")
    for k, name in enumerate(names):
        if k not in (0, 2):
            h = F.interpolate(h, scale_factor=2, mode="nearest")
        side = h
        if f"{name}.conv_s.weight_orig" in t:
            side = conv(t, f"{name}.conv_s", spade_norm(t, f"{name}.norm_s", h, x))
        a = conv(t, f"{name}.conv_0", leaky(spade_norm(t, f"{name}.norm_0", h, x)), padding=1)
        h = side + conv(
            t, f"{name}.conv_1", leaky(spade_norm(t, f"{name}.norm_1", a, x)), padding=1
        )
    return conv(t, "conv_img", leaky(h), padding=1).tanh()


def spade_critic_oracle(t, x, y):
    both, scores = torch.cat([x, y], dim=1), []
    for s in (0, 1):
        name = f"discriminator_{s}.model"
        h = leaky(conv(t, f"{name}0.0", both, 2, 2))
        for k, stride in ((1, 2), (2, 2), (3, 1)):
            h = leaky(F.instance_norm(conv(t, f"{name}{k}.0.0", h, stride, 2)))
        scores.append(conv(t, f"{name}4.0", h, 1, 2))
        both = F.avg_pool2d(both, 3, 2, 1, count_include_pad=False)
    return scores


def spade_encoder_oracle(t, y):
    h = F.interpolate(y, size=(256, 256), mode="bilinear")
    for k in range(1, 7):
        h = leaky(F.instance_norm(conv(t, f"layer{k}.0", h, 2, 1)))
    return [F.linear(h.flatten(1), t[f"{n}.weight"], t[f"{n}.bias"]) for n in ("fc_mu", "fc_var")]


def pix2pixhd_oracle(t, x, downs=2, blocks=3):
    h, place = F.instance_norm(conv(t, "model.1.0", mirror(x, 3))).relu(), 3
    for _ in range(downs):
        h = F.instance_norm(conv(t, f"model.{place}.0", h, 2, 1)).relu()
        place += 2
    for _ in range(blocks):
        name = f"model.{place}.conv_block"
        a = F.instance_norm(conv(t, f"{name}.1.0", mirror(h, 1))).relu()
        h, place = h + F.instance_norm(conv(t, f"{name}.4.0", mirror(a, 1))), place + 1
    for _ in range(downs):
        h = wide(t, f"model.{place}.0", h, padding=1, output_padding=1)
        h, place = F.instance_norm(h).relu(), place + 2
    return conv(t, f"model.{place + 1}", mirror(h, 3)).tanh()


# CUT: CycleGAN's, anti-aliased


def shrink(t, name, h):
    return F.conv2d(mirror(h, 1), t[f"{name}.filt"], stride=2, groups=h.shape[1])


def grow(t, name, h):
    wide = F.pad(h, (1,) * 4, mode="replicate")
    wide = F.conv_transpose2d(wide, t[f"{name}.filt"], stride=2, groups=h.shape[1])
    return wide[:, :, 3:-3, 3:-3]


def cut_oracle(t, x):
    h = F.instance_norm(conv(t, "model.1", mirror(x, 3))).relu()
    for place in (4, 8):
        h = F.instance_norm(conv(t, f"model.{place}", h, 1, 1)).relu()
        h = shrink(t, f"model.{place + 3}", h)
    end = 12
    while f"model.{end}.conv_block.1.weight" in t:
        a = F.instance_norm(conv(t, f"model.{end}.conv_block.1", mirror(h, 1))).relu()
        h = h + F.instance_norm(conv(t, f"model.{end}.conv_block.5", mirror(a, 1)))
        end += 1
    for place in (end, end + 4):
        h = conv(t, f"model.{place + 1}", grow(t, f"model.{place}", h), 1, 1)
        h = F.instance_norm(h).relu()
    return conv(t, f"model.{end + 9}", mirror(h, 3)).tanh()


def cut_patch_oracle(t, y):
    h = shrink(t, "model.2", leaky(conv(t, "model.0", y, 1, 1)))
    for place in (3, 7):
        h = leaky(F.instance_norm(conv(t, f"model.{place}", h, 1, 1)))
        h = shrink(t, f"model.{place + 3}", h)
    h = leaky(F.instance_norm(conv(t, "model.11", h, 1, 1)))
    return conv(t, "model.14", h, 1, 1)


# StyleGAN2's blocks, as SinCUT and the Swapping Autoencoder use them


def equal_conv(t, name, h, stride=1, padding=0, pad=None):
    w = t[f"{name}.weight"]
    h = F.pad(h, (padding,) * 4, mode=pad) if pad else h
    bias = t.get(f"{name}.bias")
    scale = math.sqrt(w[0].numel())
    return F.conv2d(h, w / scale, bias, stride, 0 if pad else padding)


def equal_linear(t, name, h):
    w = t[f"{name}.weight"]
    return F.linear(h, w / math.sqrt(w.shape[1]), t[f"{name}.bias"])


def act(t, name, h):
    return leaky(h + t[f"{name}.bias"].view(1, -1, 1, 1)) * math.sqrt(2)


def blur(t, name, h, before, after, pad="constant"):
    kernel = t[f"{name}.kernel"].expand(h.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(h, (before, after) * 2, mode=pad), kernel, groups=h.shape[1])


def sin_block(t, name, h):
    a = act(t, f"{name}.conv1.1", equal_conv(t, f"{name}.conv1.0", h, 1, 1))
    if f"{name}.skip.1.weight" not in t:
        a = act(t, f"{name}.conv2.1", equal_conv(t, f"{name}.conv2.0", a, 1, 1))
        return (a + h) / math.sqrt(2)
    a = equal_conv(t, f"{name}.conv2.1", blur(t, f"{name}.conv2.0", a, 2, 2), 2)
    side = equal_conv(t, f"{name}.skip.1", blur(t, f"{name}.skip.0", h, 1, 1), 2)
    return (act(t, f"{name}.conv2.2", a) + side) / math.sqrt(2)


def sincut_oracle(t, x):
    h = act(t, "encoder.convs.1.1", equal_conv(t, "encoder.convs.1.0", x))
    for name in [f"encoder.convs.{k}" for k in (2, 3, 4, 5)]:
        h = sin_block(t, name, h)
    for name in [f"decoder.convs.{k}" for k in (0, 1, 2)]:
        h = sin_block(t, name, h)
    w = t["decoder.convs.3.conv.weight"][0]
    w = w / math.sqrt(w[0].numel())
    w = w * torch.rsqrt(w.square().sum((1, 2, 3), keepdim=True) + 1e-8)
    h = F.conv_transpose2d(h, w.transpose(0, 1), stride=2)
    h = act(t, "decoder.convs.3.activate", blur(t, "decoder.convs.3.conv.blur", h, 1, 1))
    return act(t, "decoder.convs.4.1", equal_conv(t, "decoder.convs.4.0", h))


def sincut_critic_oracle(t, y):
    h, k = act(t, "convs.0.1", equal_conv(t, "convs.0.0", y)), 1
    while f"convs.{k}.conv1.0.weight" in t:
        h, k = sin_block(t, f"convs.{k}", h), k + 1
    h = act(t, "final_conv.1", equal_conv(t, "final_conv.0", h, 1, 1)).flatten(1)
    h = leaky(equal_linear(t, "final_linear.0", h)) * math.sqrt(2)
    return equal_linear(t, "final_linear.1", h)


def unit(code):
    return code * torch.rsqrt(code.square().sum(1, keepdim=True) + 1e-8)


def swapping_encoder_oracle(t, x):
    h = act(t, "FromRGB.Act", equal_conv(t, "FromRGB.Conv", x))
    downs = [
        2**k for k in range(9) if f"DownToSpatialCode.ResBlockDownBy{2**k}.skip.Conv.weight" in t
    ]
    for down in downs:
        name = f"DownToSpatialCode.ResBlockDownBy{down}"
        a = equal_conv(t, f"{name}.conv1.Conv", h, 1, 1, "reflect")
        a = blur(t, f"{name}.conv2.Blur", act(t, f"{name}.conv1.Act", a), 2, 1, "reflect")
        a = act(t, f"{name}.conv2.Act", equal_conv(t, f"{name}.conv2.Conv", a, 2))
        side = blur(t, f"{name}.skip.Blur", h, 1, 0, "reflect")
        h = (a + equal_conv(t, f"{name}.skip.Conv", side, 2)) / math.sqrt(2)
    s = act(t, "ToSpatialCode.0.Act", equal_conv(t, "ToSpatialCode.0.Conv", h))
    for down in (2 * downs[-1], 4 * downs[-1]):
        name = f"DownToGlobalCode.ConvLayerDownBy{down}"
        h = act(t, f"{name}.Act", equal_conv(t, f"{name}.Conv", h, 2))
    code = equal_linear(t, "ToGlobalCode.0", h.mean((2, 3)))
    return unit(equal_conv(t, "ToSpatialCode.1.Conv", s)), unit(code)


def modulated(t, name, h, code, demodulate=True):
    """A convolution with one kernel for each image, its style and weights normalised apart."""
    w = t[f"{name}.weight"][0]
    w, s = w / math.sqrt(w[0].numel()), equal_linear(t, f"{name}.modulation", code)
    if demodulate:
        s = s * torch.rsqrt(s.square().mean(1, keepdim=True) + 1e-8)
        w = w * torch.rsqrt(w.square().sum((1, 2, 3), keepdim=True) + 1e-8)
    images = []
    for one, style in zip(h, s, strict=True):
        kernel = w * style[None, :, None, None]
        if f"{name}.blur.kernel" in t:
            wide = F.conv_transpose2d(one[None], kernel.transpose(0, 1), stride=2)
            images.append(blur(t, f"{name}.blur", wide, 1, 1))
        else:
            images.append(F.conv2d(one[None], kernel, padding=kernel.shape[-1] // 2))
    return torch.cat(images)


def swapping_generator_oracle(t, s, code):
    s, code = unit(s), unit(code)
    scale, shift = (equal_linear(t, f"SpatialCodeModulation.{n}", code) for n in ("scale", "bias"))
    h = s * scale[:, :, None, None] + shift[:, :, None, None]
    names = dict.fromkeys(n.split(".")[0] for n in t if "Block" in n)
    for name in names:
        side = h
        if f"{name}.skip.Conv.weight" in t:
            side = equal_conv(t, f"{name}.skip.Conv", h)
            side = act(t, f"{name}.skip.Act", side) if f"{name}.skip.Act.bias" in t else side
        if name.startswith("Up"):
            side = F.interpolate(side, scale_factor=2, mode="bilinear", align_corners=False)
        for part in ("conv1", "conv2"):
            h = modulated(t, f"{name}.{part}.conv", h, code)
            h = act(t, f"{name}.{part}.activate", h)
        h = (h + side) / math.sqrt(2)
    return modulated(t, "ToRGB.conv", h, code, demodulate=False) + t["ToRGB.bias"]


# CyCADA


def lenet_oracle(t, x):
    h = F.max_pool2d(conv(t, "conv_params.0", x), 2).relu()
    h = F.max_pool2d(conv(t, "conv_params.3", h), 2).relu().flatten(1)
    h = F.linear(h, t["fc_params.weight"], t["fc_params.bias"]).relu()
    return F.linear(h, t["classifier.2.weight"], t["classifier.2.bias"])


def domain_critic_oracle(t, scores):
    return conv(t, "D.6", conv(t, "D.3", conv(t, "D.0", scores).relu()).relu())
