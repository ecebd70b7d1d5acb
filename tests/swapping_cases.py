"""What the tests of the Swapping Autoencoder share: small networks, a batch, planted faults."""

import dataclasses

import pytest
import torch
from faults import plant

from minilib import chapters

swapping = chapters.load("swapping_autoencoder")
TINY = dataclasses.replace(swapping.SMOKE, batch=4, crops=3)


def close(found, expected, rtol=1e-5, atol=1e-6):
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def setting(module=swapping, config=TINY, seed=0):
    """Networks of some module, and a batch of four."""
    torch.manual_seed(seed)
    nets = module.networks(config)
    return nets, torch.rand(4, 3, config.size, config.size) * 2 - 1


def properties(names):
    """The functions among a module's names that say what holds."""
    return {name: value for name, value in names.items() if name.startswith("prop_")}


def check_is_noticed(fault, holds):
    """The property ``holds`` fails for the chapter with (old, new) planted."""
    faulty = plant("swapping_autoencoder", *fault)
    with pytest.raises((AssertionError, RuntimeError)):
        holds(faulty)
