"""A simulated accelerator for torch, in Python only.

`start` makes it: after that, `torch.device("npu")` is a device with kernels, memory, streams and
random numbers of its own, on a machine that has none. Everything runs in host memory.

The package needs torch and the standard library only: `porter.rehearse` copies it beside the
user's program, whose Python need not have porter.
"""

from __future__ import annotations
