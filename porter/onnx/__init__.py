"""Checks models by exporting them to ONNX: the same numbers before, after, and in the graph.

A model is the user's code, and runs in a process of its own (`worker`). Nothing here but the
worker needs torch; `operators` needs onnx.
"""

from __future__ import annotations
