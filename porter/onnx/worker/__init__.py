"""Runs one model in a process of its own; the only code of porter that runs the user's model.

The folder is copied next to a start script, so that any Python with torch can run it; nothing
here imports porter.
"""

from __future__ import annotations
