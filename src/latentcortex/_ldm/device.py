"""Where a model computes."""

from __future__ import annotations

import torch

from latentcortex.errors import InputError


def device_of(name: str) -> torch.device:
    """Find the device of a name, for example `cpu`, `cuda` or `mps`.

    Raises
    ------
    InputError
        If torch does not know it, or cannot compute on it on this machine.
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:  # each device has its own
        why = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"device = {name!r} cannot be used on this machine: {why}. Use 'cpu', or another.") from None
    return device
