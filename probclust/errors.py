"""Errors and warnings of the library: each says what was expected, what came, and what to do."""

from __future__ import annotations


class ContractError(ValueError):
    """A story breaks the story contract; the message names the site and the remedy."""


class NonFiniteError(ArithmeticError):
    """A loss or a log joint became NaN or infinite; the message names the step, the epoch and the site."""


class SavedStoryError(ValueError):
    """A saved story or checkpoint is damaged, foreign, or of a class that is not registered."""


class FitWarning(UserWarning):
    """Something a fit met that usually spoils its result: an empty cluster, all rows in one cluster."""


class PrecisionWarning(FitWarning):
    """Columns lie so far from zero that float32 would not tell their rows apart; what was done, or is to be done."""


class ComparisonWarning(UserWarning):
    """Some of the compared stories have no likelihood, or none that can be ranked against the others'."""
