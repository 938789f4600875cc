"""What is told to the user in one line, without a traceback."""

from __future__ import annotations


class Problem(Exception):
    """Something that the user, not porter, can mend; the text names what, and the remedy."""


class Mistake(Problem):
    """A mistake on the command line."""
