"""The numerical study: experiments of one file each, measured point by point, and the page that is made from them.

points      what is measured at                 registry    experiments, and how they are found
tables      tidy rows and their files           cache       what points share, made once
store       a study's folder: points as they come, resumed, merged
runner      all points of experiments, on any engine
statistics  intervals and paired tests          verdict     who wins, where, by how much
draw        figures, the same every time        page        docs/study.md
cli         pretune-experiments

A new experiment is one file, ``experiments/study/NAME.py``, with ``EXPERIMENT = Experiment(name="NAME", ...)``.
"""

from __future__ import annotations

from pretune.study.cache import cache_folder, cached
from pretune.study.points import Point, Scalar, Scale, grid
from pretune.study.registry import Experiment, Figure, Target
from pretune.study.tables import Row, Table

__all__ = [
    "Experiment",
    "Figure",
    "Point",
    "Row",
    "Scalar",
    "Scale",
    "Table",
    "Target",
    "cache_folder",
    "cached",
    "grid",
]
