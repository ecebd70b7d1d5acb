"""Names and shapes of the released checkpoints at any width, written out from their structure.

Used by ``test_released.py``; each function returns [(name, shape)] in the order of the file.
"""

import itertools


def conv(name, out, inputs, kernel=4, bias=True):
    found = [(f"{name}.weight", (out, inputs, kernel, kernel))]
    return [*found, (f"{name}.bias", (out,))] if bias else found


def transposed(name, inputs, out, kernel=4):
    return [(f"{name}.weight", (inputs, out, kernel, kernel)), (f"{name}.bias", (out,))]


def linear(name, out, inputs):
    return [(f"{name}.weight", (out, inputs)), (f"{name}.bias", (out,))]


def spectral(name, out, inputs, kernel, bias=False, turned=False):
    """A convolution under the old hook of spectral normalisation; ``turned``: transposed."""
    weight = (inputs, out, kernel, kernel) if turned else (out, inputs, kernel, kernel)
    found = [(f"{name}.bias", (out,))] if bias else []
    return [
        *found,
        (f"{name}.weight_orig", weight),
        (f"{name}.weight_u", (out,)),
        (f"{name}.weight_v", (inputs * kernel**2,)),
    ]


def bicyclegan_unet(width, latent, levels, inputs=3, up="1"):
    wide = [inputs, *(min(8, 2**k) * width for k in range(levels))]
    paths = ["model." + "submodule." * k for k in range(levels)]
    down = [
        conv(f"{paths[k]}down.{int(k > 0)}", wide[k + 1], wide[k] + latent) for k in range(levels)
    ]
    ups = []
    for k in reversed(range(levels)):
        here = wide[k + 1] * (1 if k == levels - 1 else 2)
        out = wide[k] if k else 3
        bilinear = up == "3"
        make = conv(f"{paths[k]}up.3", out, here, 3) if bilinear else None
        ups.append(make or transposed(f"{paths[k]}up.1", here, out))
    return [entry for layer in (*down, *ups) for entry in layer]


def bicyclegan_encoder(width, latent, blocks):
    wide = [min(4, k + 1) * width for k in range(blocks + 1)]
    found = linear("fc.0", latent, wide[-1]) + linear("fcVar.0", latent, wide[-1])
    found += conv("conv.0", width, 3)
    for k in range(1, blocks + 1):
        a, b = wide[k - 1], wide[k]
        found += conv(f"conv.{k}.conv.2", a, a, 3) + conv(f"conv.{k}.conv.5.0", b, a, 3)
        found += conv(f"conv.{k}.shortcut.1", b, a, 1)
    return found


def bicyclegan_encoder_cnn(width, latent, layers):
    wide = [3, *(min(4, 2**k) * width for k in range(layers))]
    places = [0, *(3 * k - 1 for k in range(1, layers))]
    found = []
    for place, a, b in zip(places, wide, wide[1:], strict=False):
        found += conv(f"conv.{place}", b, a)
    return found + linear("fc.0", latent, wide[-1]) + linear("fcVar.0", latent, wide[-1])


def patch(width, layers, inputs=3, prefix="model"):
    wide = [inputs, *(min(8, 2**k) * width for k in range(layers + 1)), 1]
    places = [0, *(3 * k - 1 for k in range(1, layers + 2))]
    found = []
    for place, a, b in zip(places, wide, wide[1:], strict=False):
        found += conv(f"{prefix}.{place}", b, a)
    return found


def two_scales(width, layers):
    return patch(width, layers, prefix="model_0") + patch(width // 2, layers, prefix="model_1")


def resnet(width, blocks, dropout=False):
    found, end = conv("model.1", width, 3, 7), 10 + blocks
    found += conv("model.4", 2 * width, width, 3) + conv("model.7", 4 * width, 2 * width, 3)
    for k in range(10, end):
        for place in (1, 6 if dropout else 5):
            found += conv(f"model.{k}.conv_block.{place}", 4 * width, 4 * width, 3)
    found += transposed(f"model.{end}", 4 * width, 2 * width, 3)
    found += transposed(f"model.{end + 3}", 2 * width, width, 3)
    return found + conv(f"model.{end + 7}", 3, width, 7)


def spade_norm(name, channels, labels, hidden):
    stats = [(f"{name}.param_free_norm.{s}", (channels,)) for s in ("running_mean", "running_var")]
    found = [*stats, (f"{name}.param_free_norm.num_batches_tracked", ())]
    found += conv(f"{name}.mlp_shared.0", hidden, labels, 3)
    found += conv(f"{name}.mlp_gamma", channels, hidden, 3)
    return found + conv(f"{name}.mlp_beta", channels, hidden, 3)


def spade_generator(width, labels, hidden=128, latent=0, low=(1, 1)):
    found = conv("fc", 16 * width, labels, 3)
    if latent:
        found = linear("fc", 16 * width * low[0] * low[1], latent)
    names = ["head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"]
    wide = [16, 16, 16, 16, 8, 4, 2, 1]
    for name, a, b in zip(names, wide, wide[1:], strict=False):
        a, b = a * width, b * width
        found += spectral(f"{name}.conv_0", b, a, 3, bias=True)
        found += spectral(f"{name}.conv_1", b, b, 3, bias=True)
        found += spectral(f"{name}.conv_s", b, a, 1) if a != b else []
        found += spade_norm(f"{name}.norm_0", a, labels, hidden)
        found += spade_norm(f"{name}.norm_1", b, labels, hidden)
        found += spade_norm(f"{name}.norm_s", a, labels, hidden) if a != b else []
    return found + conv("conv_img", 3, width, 3)


def spade_critic(width, channels):
    found = []
    for s in (0, 1):
        start = f"discriminator_{s}.model"
        found += conv(f"{start}0.0", width, channels)
        for k in (1, 2, 3):
            found += spectral(f"{start}{k}.0.0", 2**k * width, 2 ** (k - 1) * width, 4)
        found += conv(f"{start}4.0", 1, 8 * width)
    return found


def spade_encoder(width, latent=256):
    wide, found = [3, *(n * width for n in (1, 2, 4, 8, 8, 8))], []
    for k, (a, b) in enumerate(itertools.pairwise(wide), 1):
        found += spectral(f"layer{k}.0", b, a, 3)
    return found + linear("fc_mu", latent, 16 * wide[-1]) + linear("fc_var", latent, 16 * wide[-1])


def pix2pixhd(width, labels, downs, blocks):
    found, place = spectral("model.1.0", width, labels, 7), 3
    for k in range(downs):
        found += spectral(f"model.{place}.0", 2 ** (k + 1) * width, 2**k * width, 3)
        place += 2
    deep = 2**downs * width
    for _ in range(blocks):
        for part in (1, 4):
            found += spectral(f"model.{place}.conv_block.{part}.0", deep, deep, 3)
        place += 1
    for k in reversed(range(downs)):
        found += spectral(f"model.{place}.0", 2**k * width, 2 ** (k + 1) * width, 3, turned=True)
        place += 2
    return found + conv(f"model.{place + 1}", 3, width, 7)


def cinn(blocks, width, depth=1, features=784, conditions=10):
    found = []
    for k in range(blocks):
        for net in ("s1", "s2"):
            start = f"module_list.{3 + 2 * k}.{net}"
            found += linear(f"{start}.0", width, features // 2 + conditions)
            for i in range(1, depth):
                found += linear(f"{start}.{2 * i}", width, width)
            found += linear(f"{start}.{2 * depth}", features, width)
    return found


def blurred(name, channels, size=3):
    """A fixed filter, one copy for each channel."""
    return [(f"{name}.filt", (channels, 1, size, size))]


def cut_resnet(width, blocks):
    found, end = conv("model.1", width, 3, 7), 12 + blocks
    found += conv("model.4", 2 * width, width, 3) + blurred("model.7", 2 * width)
    found += conv("model.8", 4 * width, 2 * width, 3) + blurred("model.11", 4 * width)
    for k in range(12, end):
        for place in (1, 5):
            found += conv(f"model.{k}.conv_block.{place}", 4 * width, 4 * width, 3)
    found += blurred(f"model.{end}", 4 * width, 4)
    found += conv(f"model.{end + 1}", 2 * width, 4 * width, 3)
    found += blurred(f"model.{end + 4}", 2 * width, 4)
    found += conv(f"model.{end + 5}", width, 2 * width, 3)
    return found + conv(f"model.{end + 9}", 3, width, 7)


def cut_patch(width):
    found = conv("model.0", width, 3) + blurred("model.2", width)
    found += conv("model.3", 2 * width, width) + blurred("model.6", 2 * width)
    found += conv("model.7", 4 * width, 2 * width) + blurred("model.10", 4 * width)
    return found + conv("model.11", 8 * width, 4 * width) + conv("model.14", 1, 8 * width)


def cut_heads(widths, units):
    found = []
    for k, width in enumerate(widths):
        found += linear(f"mlp_{k}.0", units, width) + linear(f"mlp_{k}.2", units, units)
    return found


def sin_block(name, inputs, out, down):
    """A residual block of StyleGAN2, with biases as (1, C, 1, 1)."""
    found = conv(f"{name}.conv1.0", inputs, inputs, 3, bias=False)
    found += [(f"{name}.conv1.1.bias", (1, inputs, 1, 1))]
    found += [(f"{name}.conv2.0.kernel", (4, 4))] if down else []
    found += conv(f"{name}.conv2.{int(down)}", out, inputs, 3, bias=False)
    found += [(f"{name}.conv2.{1 + down}.bias", (1, out, 1, 1))]
    if down:
        found += [(f"{name}.skip.0.kernel", (4, 4))]
        found += conv(f"{name}.skip.1", out, inputs, 1, bias=False)
    return found


def sincut_generator(width):
    a, b = 8 * width, 16 * width
    found = conv("encoder.convs.1.0", a, 3, 1, bias=False)
    found += [("encoder.convs.1.1.bias", (1, a, 1, 1))]
    found += sin_block("encoder.convs.2", a, b, down=True)
    for name in ("encoder.convs.3", "encoder.convs.4", "encoder.convs.5",
                 "decoder.convs.0", "decoder.convs.1", "decoder.convs.2"):  # fmt: skip
        found += sin_block(name, b, b, down=False)
    found += [("decoder.convs.3.conv.weight", (1, a, b, 3, 3))]
    found += [("decoder.convs.3.conv.blur.kernel", (4, 4)), ("decoder.convs.3.noise.weight", (1,))]
    found += [("decoder.convs.3.activate.bias", (1, a, 1, 1))]
    found += conv("decoder.convs.4.0", 3, a, 1, bias=False)
    return [*found, ("decoder.convs.4.1.bias", (1, 3, 1, 1))]


def sincut_critic(widths):
    found = conv("convs.0.0", widths[0], 3, 1, bias=False)
    found += [("convs.0.1.bias", (1, widths[0], 1, 1))]
    for k, (a, b) in enumerate(itertools.pairwise(widths), 1):
        found += sin_block(f"convs.{k}", a, b, down=True)
    last = widths[-1]
    found += conv("final_conv.0", last, last, 3, bias=False)
    found += [("final_conv.1.bias", (1, last, 1, 1))]
    return found + linear("final_linear.0", last, 16 * last) + linear("final_linear.1", 1, last)


def layer(name, out, inputs, kernel, blur=0, act=True):
    """A layer of the Swapping Autoencoder."""
    found = [(f"{name}.Blur.kernel", (blur, blur))] if blur else []
    found += conv(f"{name}.Conv", out, inputs, kernel, bias=False)
    return [*found, (f"{name}.Act.bias", (out,))] if act else found


def swapping_encoder(widths, structure, texture, texture_widths):
    found, last = layer("FromRGB", widths[0], 3, 1), widths[-1]
    for k, (a, b) in enumerate(itertools.pairwise(widths)):
        name = f"DownToSpatialCode.ResBlockDownBy{2**k}"
        found += layer(f"{name}.conv1", a, a, 3) + layer(f"{name}.conv2", b, a, 3, 3)
        found += layer(f"{name}.skip", b, a, 1, 3, act=False)
    found += layer("ToSpatialCode.0", last, last, 1) + conv(
        "ToSpatialCode.1.Conv", structure, last, 1
    )
    for j, (a, b) in enumerate(itertools.pairwise((last, *texture_widths))):
        down = 2 ** (len(widths) - 1 + j)
        found += layer(f"DownToGlobalCode.ConvLayerDownBy{down}", b, a, 3, 1)
    return found + linear("ToGlobalCode.0", texture, texture_widths[-1])


def swapping_block(name, inputs, out, texture, up):
    found = []
    for part, a, blur in (("conv1", inputs, up), ("conv2", out, False)):
        found += [(f"{name}.{part}.conv.weight", (1, out, a, 3, 3))]
        found += [(f"{name}.{part}.conv.blur.kernel", (4, 4))] if blur else []
        found += linear(f"{name}.{part}.conv.modulation", a, texture)
        found += [(f"{name}.{part}.noise.weight", (1,)), (f"{name}.{part}.activate.bias", (out,))]
    if inputs != out:
        found += layer(f"{name}.skip", out, inputs, 1, act=up)
    return found


def swapping_generator(structure, texture, heads, ups):
    found = linear("SpatialCodeModulation.scale", structure, texture)
    found += linear("SpatialCodeModulation.bias", structure, texture)
    for k, (a, b) in enumerate(itertools.pairwise((structure, *heads))):
        found += swapping_block(f"HeadResnetBlock{k}", a, b, texture, up=False)
    for k, (a, b) in enumerate(itertools.pairwise((heads[-1], *ups))):
        found += swapping_block(f"UpsamplingResBlock{2 ** (4 + k)}", a, b, texture, up=True)
    found += [("ToRGB.bias", (1, 3, 1, 1)), ("ToRGB.upsample.kernel", (4, 4))]
    found += [("ToRGB.conv.weight", (1, 3, ups[-1], 1, 1))]
    return found + linear("ToRGB.conv.modulation", ups[-1], texture)


def lenet(classes=10):
    found = conv("conv_params.0", 20, 1, 5) + conv("conv_params.3", 50, 20, 5)
    return found + linear("fc_params", 500, 800) + linear("classifier.2", classes, 500)


def domain_critic(features, widths):
    wide = (features, *widths, 2)
    pairs = itertools.pairwise(wide)
    return [e for k, (a, b) in enumerate(pairs) for e in conv(f"D.{3 * k}", b, a, 1)]


LISTED = {  # what the reference list calls each network, and how we write it out
    "bicyclegan.generator (U-Net 128, add_to_all, base width 8 here)": bicyclegan_unet(8, 8, 7),
    "bicyclegan.encoder (E_ResNet 128, width 8)": bicyclegan_encoder(8, 8, 3),
    "bicyclegan.encoder_cnn (E_CNN 128, width 8)": bicyclegan_encoder_cnn(8, 8, 4),
    "bicyclegan.discriminator (two scales, 128, width 8)": two_scales(8, 2),
    "bicyclegan.discriminator_256 (two scales, 256, width 8)": two_scales(8, 3),
    "cyclegan.generator (ResNet 9 blocks, width 8)": resnet(8, 9),
    "cyclegan.generator_6 (ResNet 6 blocks, width 8)": resnet(8, 6),
    "cyclegan.discriminator (PatchGAN, width 8)": patch(8, 3, inputs=6),
    "spade.generator (normal, width 2)": spade_generator(2, 7),
    "spade.discriminator (width 8)": spade_critic(8, 10),
    "spade.encoder (width 8, 256)": spade_encoder(8),
    "spade.pix2pixhd_generator (width 8, 2 downs, 3 blocks)": pix2pixhd(8, 7, 2, 3),
    "cinn.mnist (4 blocks, width 32 here; FrEIA names; permutations are fixed buffers)": cinn(
        4, 32
    ),
    "cut.generator (ResNet 9 blocks, anti-aliased, width 8)": cut_resnet(8, 9),
    "cut.discriminator (anti-aliased, width 8)": cut_patch(8),
    "cut.heads (PatchNCE heads, reduced)": cut_heads((3, 8), 16),
    "cut.sincut_generator (width 1, 64 px)": sincut_generator(1),
    "cut.sincut_discriminator (width 1, 64 px)": sincut_critic((4, 8, 16, 32, 64)),
    "swapping_autoencoder.encoder (small)": swapping_encoder((4, 8, 16, 32, 64), 8, 64, (64, 64)),
    "swapping_autoencoder.generator (small)": swapping_generator(8, 64, (8, 16), (16, 16, 8, 4)),
    "cycada.lenet": lenet(),
    "cycada.segmentation_discriminator (reduced)": domain_critic(19, (512, 256)),
}
