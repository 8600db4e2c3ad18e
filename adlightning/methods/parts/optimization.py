"""Where methods that are being rebuilt look for what lies in `core.optimization`; goes with the last of them."""

from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part

__all__ = ["Interval", "one_optimizer", "optimizer_part", "scheduler_part"]
