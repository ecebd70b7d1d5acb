"""Planted faults: a chapter's definitions with one piece of code changed."""

import sys
import types

from minilib import chapters


def plant(chapter: str, old: str, new: str) -> types.ModuleType:
    """The chapter as a module in which ``old``, which must stand in it once, is ``new``."""
    source = chapters.source(chapter)
    assert source.count(old) == 1
    faulty = types.ModuleType(f"minilib_faulty_{chapter}")
    sys.modules[faulty.__name__] = faulty  # dataclasses look their module up
    exec(compile(source.replace(old, new), "faulty", "exec"), faulty.__dict__)
    return faulty
