"""Move CUDA-bound PyTorch code to any accelerator, and prove that it still works."""

from porter._version import __version__

__all__ = ["__version__"]
