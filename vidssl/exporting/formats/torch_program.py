"""`torch-export`: a program of PyTorch that runs without vidssl, for clips of one shape in batches of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vidssl.errors import VidsslError
from vidssl.exporting.formats.form import Features, Format, Loaded
from vidssl.models.encoder import VideoEncoder

FILE = "encoder.pt2"
# Of what a node of the graph remembers, what names files and folders of this machine.
_PLACES = ("stack_trace", "fwd_source_fn_stack", "source_fn_stack")


class _Plain(nn.Module):
    """An encoder that returns a plain tuple, which needs no class of ours to be read back."""

    def __init__(self, encoder: VideoEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, clips: Tensor) -> Features:
        features = self.encoder(clips)
        return features.clip, features.frames


def trace(encoder: VideoEncoder, clips: Tensor) -> tuple[ExportedProgram, dict[str, Any]]:
    """The program of an encoder for clips of this shape, the number of clips left open.

    Args:
        encoder: in evaluation mode.
        clips: (B, 3, T, H, W), at least two.

    Returns:
        The program, and `batch`: the largest batch that it takes, None for any.

    Raises:
        VidsslError: for a network whose code depends on the number of clips.
    """
    try:
        with torch.no_grad():
            program = torch.export.export(_Plain(encoder), (clips[:2],), dynamic_shapes=({0: Dim.DYNAMIC},))
    except Exception as error:  # of torch's many kinds
        said = " ".join(str(error).split())
        if "specialized" in said:
            said = "its code asks for the number of clips, so that a program would be for that many only"
        raise VidsslError(f"{encoder.spec['name']}: cannot be traced: {said[:200]}") from error
    for module in program.graph_module.modules():
        graph = getattr(module, "graph", None)
        for node in graph.nodes if graph is not None else ():
            for place in _PLACES:
                node.meta.pop(place, None)
    uppers = [constraint.upper for constraint in program.range_constraints.values()]
    finite = [int(upper) for upper in uppers if upper.is_finite and upper.is_Integer]
    return program, {"batch": min(finite, default=None)}


def _write(encoder: VideoEncoder, folder: Path, clips: Tensor) -> dict[str, Any]:
    program, said = trace(encoder, clips)
    torch.export.save(program, folder / FILE)
    return said


def _read(folder: Path) -> Loaded:
    module = torch.export.load(folder / FILE).module()

    def encode(clips: Tensor) -> Features:
        clip, frames = module(clips)
        return clip, frames

    return Loaded(encode)


TORCH_EXPORT = Format(
    require=lambda encoder: None,
    write=_write,
    read=_read,
    library="pytorch",
    usage="""\
import torch
encoder = torch.export.load({place} + "/encoder.pt2").module()
mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in ({mean}, {std}))
clip, frames = encoder((clips - mean) / std)  # clips (B, 3, T, H, W), RGB in [0, 1] -> (B, D), (B, T, D)""",
)
