from dataclasses import dataclass

import pytest

from minilib.config import ConfigError, Plan, fingerprint, nearest, option, resolve, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    steps: int = option(100, "optimiser steps", "ours", low=0)
    rate: float = option(1e-3, "learning rate", "paper 4", low=0, high=1)
    kind: str = option("lsgan", "GAN objective", "paper 3", choices=("lsgan", "hinge"))
    sizes: tuple[int, ...] = option((1, 2), "channels", "ours", low=1)
    limit: int | None = option(None, "images", "ours", low=1)
    on: bool = option(False, "switch", "ours")


PRESETS = {
    "toy": {"one": Plan(Config(), "none", "CPU", 1), "two": Plan(Config(steps=7), "none", "CPU", 1)}
}


def config(**overrides):
    return resolve(PRESETS, "toy", "", overrides)[1].config


def test_first_task_is_the_default_and_a_named_one_is_found():
    assert resolve(PRESETS, "toy")[0] == "one"
    assert resolve(PRESETS, "toy", "two")[1].config.steps == 7


def test_overrides_replace_only_what_they_name():
    new = config(steps=5, sizes=[3, 4], limit=9)
    assert (new.steps, new.sizes, new.limit, new.rate) == (5, (3, 4), 9, 1e-3)
    assert PRESETS["toy"]["one"].config.steps == 100


@pytest.mark.parametrize(
    ("value", "wanted"), [({"rate": 1}, 1.0), ({"steps": 1e3}, 1000), ({"limit": None}, None)]
)
def test_numbers_are_read_as_their_field_wants(value, wanted):
    name = next(iter(value))
    got = getattr(config(**value), name)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stesp": 3}, "did you mean 'steps'?"),
        ({"steps": "3"}, "'steps' wants int, not str '3'"),
        ({"steps": 2.5}, "'steps' wants int"),
        ({"steps": True}, "'steps' wants int, not bool"),
        ({"on": 1}, "'on' wants bool"),
        ({"steps": -1}, "'steps' must be at least 0, not -1"),
        ({"rate": 2.0}, "'rate' must be at most 1"),
        ({"rate": float("nan")}, "'rate' must be a finite number"),
        ({"rate": float("inf")}, "'rate' must be a finite number"),
        ({"limit": 0}, "'limit' must be at least 1"),
        ({"kind": "lsgn"}, "did you mean 'lsgan'?"),
        ({"sizes": [0]}, "'sizes' must be at least 1"),
        ({"sizes": [1, "x"]}, "'sizes' wants int"),
    ],
)
def test_bad_overrides_are_one_clear_line(overrides, message):
    with pytest.raises(ConfigError) as error:
        config(**overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("preset", "task"), [("tooy", ""), ("toy", "on")])
def test_unknown_preset_and_task_name_the_allowed(preset, task):
    with pytest.raises(ConfigError, match="Allowed: "):
        resolve(PRESETS, preset, task)


def test_nearest_suggests_only_what_is_near():
    assert "did you mean" not in nearest("xyz", ["toy"], "preset")


def test_fingerprint_changes_with_every_part():
    prints = {fingerprint("a", config(), 0), fingerprint("a", config(steps=1), 0)}
    prints |= {fingerprint("a", config(), 1), fingerprint("b", config(), 0)}
    assert len(prints) == 4
    assert fingerprint("a", config(), 0) in prints


def test_rows_carry_unit_and_origin():
    assert rows(Config())[1] == ("rate", 1e-3, "learning rate", "paper 4")
