"""The small shared library of *One Input, Many Answers*.

A definition is born in the chapter that introduces it and moves here when a second chapter needs
it.  ``python -m minilib`` lists, describes and runs the chapters.
"""

__version__ = "0.1.0"
