"""The words by which findings are told apart: how safe, how urgent, and what became of them."""

from __future__ import annotations

import enum


class Safety(str, enum.Enum):
    """How far an edit may be trusted."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    MANUAL = "manual"


class Category(str, enum.Enum):
    """What happens on the target if the site stays as it is."""

    MANDATORY = "mandatory"
    OPTIONAL = "optional"
    POTENTIAL = "potential"
    #: It works there, but could be faster or more exact.
    ADVICE = "advice"
    INFORMATION = "information"


#: Categories that ask nothing of anybody: they decide neither the exit code nor the verdict.
QUIET = frozenset({Category.ADVICE, Category.INFORMATION})


class Status(str, enum.Enum):
    """What porter did with a site."""

    REWRITTEN = "rewritten"
    LEFT = "left"
    INFORMATION = "information"
