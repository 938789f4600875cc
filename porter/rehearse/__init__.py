"""Runs migrated code on a simulated device, in processes of its own, and says what came of it.

Nothing here knows a device or imports torch: `porter.rewrites.simulated` has the device.
"""

from __future__ import annotations
