"""Each chapter's networks ready for a training step: for ``test_full_trees`` and ``bench_costs``.

A driver takes an open run and puts together from the chapter's definitions what its cells put
together: networks, optimisers, batches, the step, and something to measure.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from minilib import chapters, data


@dataclass
class Trial:
    """A task ready for its step.

    state: all that trains.  step: one optimisation step.  batches: what step i would see.
    evaluate: measures something on held-out images.
    """

    state: Any
    step: Callable
    batches: Callable
    evaluate: Callable


def bicyclegan(run) -> Trial:
    b, c = chapters.load("bicyclegan"), run.config
    nets = {n: net.to(run.device) for n, net in b.networks(c).items()}
    state = b.make_state(nets, c)
    batches = b.make_batches(b.open_pairs(run.plan.data, c), c, run.seed, run.device)
    step = b.make_step(nets, state.optimizers, batches, b.objective_of(c.variants[0], c))

    def evaluate() -> None:
        held_out = b.open_pairs(run.plan.data, c, held_out=True)
        x, _ = held_out.pairs(torch.arange(1), crop=c.size)
        x = x[:, : c.input_channels]
        y_hat = b.answers(nets["generator"].eval(), x, torch.randn(1, 2, c.latent))
        run.metric("distance", (y_hat[:, 0] - y_hat[:, 1]).abs().mean())

    return Trial(state, step, batches, evaluate)


def cyclegan(run) -> Trial:
    m, c = chapters.load("cyclegan"), run.config
    want = m.objective_of(c.variants[0], c)
    nets = m.networks(c, pairs=bool(want.pair))
    nets = {n: net.to(run.device) for n, net in nets.items()}
    state = m.make_state(nets, c)
    x_set, y_set = m.open_domains(run.plan.data, run.task, c)
    batches = m.make_batches(x_set, y_set, c, run.seed, run.device)
    step = m.make_step(nets, state, batches, want)

    def evaluate() -> None:
        x, _ = m.open_domains(run.plan.data, run.task, c, held_out=True)
        y_hat = m.translate(nets["to_y"].eval(), x.batch(torch.arange(1)))
        run.metric("changed", m.loss_same(x.batch(torch.arange(1)), y_hat))

    return Trial(state, step, batches, evaluate)


def cut(run) -> Trial:
    m, c = chapters.load("cut"), run.config
    want = m.objective_of(c.variants[0], c)
    nets = {n: net.to(run.device) for n, net in m.variant_networks(c, want).items()}
    state = m.make_state(nets, c, want)
    game = m.make_game(nets, state, c, want)
    x_set, y_set = m.open_domains(run.plan.data, run.task, c)
    batches = chapters.load("cyclegan").make_batches(x_set, y_set, c, run.seed, run.device)
    step = m.make_step(game, state, batches, c.momentum)

    def evaluate() -> None:
        x, _ = m.open_domains(run.plan.data, run.task, c, held_out=True)
        image = x.batch(torch.arange(1))
        y_hat = chapters.load("cyclegan").translate(nets["generator"].eval(), image)
        run.metric("changed", (image - y_hat).abs().mean())

    return Trial(state, step, batches, evaluate)


def spade(run) -> Trial:
    # synchronised statistics want several GPUs; on one the same networks have these
    m, c = chapters.load("spade"), dataclasses.replace(run.config, statistics="batch")
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    state = m.make_state(nets, c)
    batches = m.make_batches(m.open_pairs(run.plan.data, c), c, run.seed, run.device)
    step = m.make_step(nets, state.optimizers, None, batches, m.objective_of(c))

    def evaluate() -> None:
        held_out = m.open_pairs(run.plan.data, c, held_out=True)
        x, y = held_out.pairs(torch.arange(1), crop=(c.height, c.width))
        y_hat = m.sampled(nets["generator"].eval(), x, 1)
        run.metric("error", (y - y_hat[:, 0]).abs().mean())

    return Trial(state, step, batches, evaluate)


def conditional_imle(run) -> Trial:
    m, c = chapters.load("conditional_imle"), run.config
    pairs = m.open_pairs(run.plan.data, c)
    nets = m.networks(c)
    model = m.Implicit(nets["generator"], nets["noise_encoder"]).to(run.device)
    matches = m.Matches(min(c.pool, len(pairs)))
    state = m.make_state(model, c, c.rounds * c.inner, matches)
    step = m.imle_step(model, state.optimizers["model"], matches, pairs, m.Pixels(), c, run.device)

    def evaluate() -> None:
        x, y = m.open_pairs(run.plan.data, c, held_out=True).pairs(torch.arange(1))
        y_hat = m.sampled(model.eval(), x, 1, m.latent_shape(c), run.seed)
        run.metric("error", (y - y_hat[:, 0]).abs().mean())

    return Trial(state, step, lambda i: pairs.pairs(torch.tensor([i % 2])), evaluate)


def cinn(run) -> Trial:
    m, c = chapters.load("cinn"), run.config
    flow = m.networks(c)["cinn"].to(run.device)
    state = m.make_state(flow, c)
    images, labels = (part[c.held_back :] for part in data.mnist("train"))
    y, x = images.flatten(1).to(run.device), m.one_hot(labels).to(run.device)
    step = m.make_step(flow, state.optimizers["cinn"], y, x, c, run.seed)

    def evaluate() -> None:
        test = data.mnist("test")
        held = test.x.flatten(1).to(run.device), m.one_hot(test.labels).to(run.device)
        z, log_det = flow.eval()(*held)
        nats = float(m.negative_log_likelihood(z, log_det).detach())
        run.metric("bits", m.bits_per_dim(nats, y.shape[1]))

    batch = m.training.batch_indices
    return Trial(state, step, lambda i: (y[batch(len(y), 8, i, run.seed)],), evaluate)


def cinn_colorization(run) -> Trial:
    """The last act, in which both networks train."""
    m, c = chapters.load("cinn_colorization"), run.config
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    flow, net = nets["cinn"], nets["conditions"]
    state = m.make_state(flow, net, c.joint_steps, c)
    train, test = m.photo_sets(run.plan.data, c)
    step = m.make_step(flow, net, state.optimizers["cinn"], train, c, run.seed, run.device)

    def evaluate() -> None:
        flow.eval(), net.eval()
        x, y = test.batch(torch.arange(1))
        y_hat = m.sample(flow, net, x, 2, c.chroma, run.seed) * c.scale
        run.metric("error", m.pixelwise_error(y_hat, y * c.scale))

    return Trial(state, step, lambda i: m.draw(train, 2, i, run.seed, run.device), evaluate)


def cgml(run) -> Trial:
    """The curve: no data set, and a few numbers for every point."""
    m, c = chapters.load("cgml"), run.config
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    state = m.make_state(nets, c.rate, c.steps)

    def draw(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = m.draw_curve(c.runs, c.batch)
        return x.to(run.device), y.to(run.device)

    step = m.cgml_step(
        nets, state.optimizers, draw, c.latent, c.inner, c.beta, c.lipschitz, c.noise
    )

    def evaluate() -> None:
        run.metric("points", draw(0)[0].numel())

    return Trial(state, step, draw, evaluate)


def cgml_completion(run) -> Trial:
    m, c = chapters.load("cgml_completion"), run.config
    cgml = chapters.load("cgml")
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    state = cgml.make_state(nets, c.rate, c.steps)
    y = 2 * data.mnist("train").x - 1

    def draw(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = y[m.training.batch_indices(len(y), c.batch, i, run.seed)]
        masks = m.random_masks(len(chosen), c.size)
        top = chosen.flatten(1)[:, : c.size**2 // 2]
        return m.as_input(chosen, masks)[None].to(run.device), top[None].to(run.device)

    step = cgml.cgml_step(
        nets, state.optimizers, draw, c.latent, c.inner, c.beta, c.lipschitz, c.noise
    )

    @torch.no_grad()
    def evaluate() -> None:
        x, wanted = draw(1)
        h = nets["encoder"](x)
        z = cgml.on_sphere(torch.randn(1, x.shape[1], c.latent)).to(run.device)
        run.metric("error", (nets["generator"](h, z) - wanted).abs().mean())

    return Trial(state, step, lambda i: (y[m.training.batch_indices(len(y), 8, i, 0)],), evaluate)


def cgml_images(run) -> Trial:
    m, c = chapters.load("cgml_images"), run.config
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    nets = {n: nets[n] for n in ("encoder", "generator", *m.PARTS["cgml"])}
    state = m.make_state(nets, c.rate, c.steps)
    batches = m.make_batches(m.open_examples(run.plan.data, c), c.batch, run.seed, run.device)
    error = m.make_error(c.uniform, c.bins)
    step = m.make_cgml_step(nets, state.optimizers, batches, error, c)

    def evaluate() -> None:
        x, y = m.open_examples(run.plan.data, c, held_out=True).read(torch.arange(1), 0)
        z = m.draw_latents((2, 1), c.latent, x)
        for net in nets.values():
            net.eval()
        y_hat = m.answers(nets, x, z, 2, c.alpha)
        run.metric("error", (y - y_hat[:, 0]).abs().mean())

    def seen(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(m.training.step_seed(run.seed, i))  # holes are drawn as they are read
        return batches(i)

    return Trial(state, step, seen, evaluate)


def cgml_spectral(run) -> Trial:
    m, c = chapters.load("cgml_spectral"), run.config
    cgml = chapters.load("cgml")
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    nets = {n: nets[n] for n in ("encoder", "generator", "median")}
    state = cgml.make_state(nets, c.rate, c.steps)
    spectra, _ = m.open_shapes(run.plan.data, "train", c.shapes, c, run.seed)
    middle, scale = spectra.mean(dim=0), spectra.std(dim=0) + 1e-3
    draw = m.make_draw(((spectra - middle) / scale).to(run.device), c, run.seed)
    step = cgml.cgml_step(nets, state.optimizers, draw, c.latent, c.inner, c.beta)

    def opened(name: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        shapes, labels = m.open_shapes(name, split, c.class_shapes, c, run.seed)
        return ((shapes - middle) / scale).to(run.device), labels

    hidden = m.hidden_part(c.degree, c.corruption, c.patch)
    keep = torch.ones_like(hidden) if c.corruption == "noise" else ~hidden

    def evaluate() -> None:
        x, y = m.ask(opened(run.plan.data, "test")[0], hidden, c.corruption)
        z = cgml.on_sphere(torch.randn(c.runs, len(x), c.latent)).to(run.device)
        with torch.no_grad():
            h = nets["encoder"](x.expand(c.runs, -1, -1))
            walked = cgml.walk(nets["median"], h, z, 2, c.alpha)[-1]
            score = m.score_spectra(
                nets["generator"](h, walked)[:, None], y, c.corruption == "sines"
            )
        for key, value in score.items():
            run.metric(key, value.mean())
        for name in c.downstream:
            run.dataset(name, data.checksum(name))
            sets = [opened(name, split) for split in ("train", "test")]
            features = [m.bottlenecks(nets["encoder"], x[:, keep], c.runs)[0] for x, _ in sets]
            (_, labels), (_, wanted) = sets
            probe = chapters.load("cgml_images").linear_accuracy
            run.metric(f"accuracy.{name}", probe(features[0], labels, features[1], wanted))

    def seen(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(m.training.step_seed(run.seed, i))  # its noise is drawn with the batch
        return draw(i)

    return Trial(state, step, seen, evaluate)


def swapping_autoencoder(run) -> Trial:
    m, c = chapters.load("swapping_autoencoder"), run.config
    nets = {n: net.to(run.device) for n, net in m.networks(c).items()}
    state = m.make_state(nets, c)
    batches = m.make_batches(m.open_images(run.plan.data, c), c, run.seed, run.device)
    step = m.make_step(
        nets, state.optimizers, batches, m.make_cut(c), m.objective_of(c), c.r1_every
    )

    @torch.no_grad()
    def evaluate() -> None:
        x = m.open_images(run.plan.data, c, held_out=True).batch(torch.arange(1), crop=c.size)
        x_hat = nets["generator"].eval()(*nets["encoder"].eval()(x.to(run.device)))
        run.metric("error", (x.to(run.device) - x_hat).abs().mean())

    return Trial(state, step, lambda i: (batches(i),), evaluate)


def cycada(run) -> Trial:
    """The translators, which take almost all of the time."""
    m, c = chapters.load("cycada"), run.config
    cyclegan_page, settings = chapters.load("cyclegan"), m.translator_settings(c)
    worlds = m.open_worlds(run.plan.data, run.task, c)
    f_s = m.task_network(c.task_net, c.classes, c.task_width).to(run.device).eval()
    nets = {n: net.to(run.device) for n, net in m.translators(c).items()}
    state = cyclegan_page.make_state(nets, settings)
    batches = cyclegan_page.make_batches(
        worlds.source, worlds.target, settings, run.seed, run.device
    )
    want = m.objective_of(c.variants[0], c.weight_cycle, c.weight_semantic)
    step = m.make_translation_step(nets, state, batches, want, f_s)

    def evaluate() -> None:
        image = worlds.source.batch(torch.arange(1), crop=settings.size)
        y_hat = cyclegan_page.translate(nets["to_y"].eval(), image)
        run.metric("changed", (image - y_hat).abs().mean())

    return Trial(state, step, batches, evaluate)


DRIVERS = {
    driver.__name__: driver
    for driver in (
        bicyclegan, cyclegan, cut, cycada, spade, swapping_autoencoder, conditional_imle, cinn,
        cinn_colorization, cgml, cgml_completion, cgml_images, cgml_spectral,
    )
}  # fmt: skip
TARGETS = {"gta5": "cityscapes", "usps": "mnist", "mnist": "usps", "svhn": "mnist"}


def data_sets(chapter: str, data_set: str) -> tuple[str, ...]:
    """The data sets that a task reads: its plan's, and what it adapts to or classifies."""
    if chapter == "cycada" and data_set in TARGETS:
        return data_set, TARGETS[data_set]
    if chapter == "cgml_spectral" and data_set == "shapenet":
        return data_set, "modelnet10", "modelnet40"
    return (data_set,)
