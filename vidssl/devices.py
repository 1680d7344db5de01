"""From the name of a device to the device, before anything is computed."""

from __future__ import annotations

import torch

from vidssl.errors import check_choice


def find_device(given: str | None = None) -> torch.device:
    """The device called `given`; None is a GPU if there is one, else the CPU.

    Raises:
        VidsslError: for one that is not on this machine.
    """
    if given is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there, accelerator = ["cpu"], torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        numbers = range(torch.accelerator.device_count())
        there += [accelerator.type, *(f"{accelerator.type}:{number}" for number in numbers)]
    check_choice("device", given, there, "{name}={value!r}: not on this machine{guess} (there is: {allowed})")
    return torch.device(given)
