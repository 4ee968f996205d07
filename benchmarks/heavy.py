"""A plugin whose import takes long, as that of a model does."""
import numpy  # noqa: F401
import pandas  # noqa: F401

from benchmarks.work import Echo  # noqa: F401
