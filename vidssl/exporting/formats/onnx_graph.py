"""`onnx`: a graph for ONNX runtimes, for clips of one shape in batches of any size; checked with onnxruntime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.exporting.formats.form import Features, Format, Loaded
from vidssl.exporting.formats.torch_program import trace
from vidssl.models.encoder import VideoEncoder

FILE = "encoder.onnx"
ONE_FILE = (
    1 << 30
)  # bytes; larger weights go into a file beside it, since a file of ONNX's format ends at 2 GiB
OUTPUTS = ["clip", "frames"]


def _require(encoder: VideoEncoder) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise VidsslError(f"--format onnx: needs {name}: install vidssl[onnx]") from None


def _write(encoder: VideoEncoder, folder: Path, clips: Tensor) -> dict[str, Any]:
    import onnx_ir

    program, said = trace(encoder, clips)
    try:
        made = torch.onnx.export(
            program, (clips[:2],), dynamo=True, input_names=["clips"], output_names=OUTPUTS, verbose=False
        )
    except Exception as error:  # of torch's many kinds
        reason = " ".join(str(error.__cause__ or error).split())
        raise VidsslError(f"{encoder.spec['name']}: cannot be written as ONNX: {reason[:200]}") from error
    assert made is not None
    graph = made.model.graph
    for value in (*graph.inputs, *graph.outputs):
        value.shape = onnx_ir.Shape(["batch", *list(value.shape or ())[1:]])
    for node in graph.all_nodes():  # which remember files and folders of this machine
        node.metadata_props.clear()
    weights = sum(value.numel() * value.element_size() for value in encoder.state_dict().values())
    made.save(folder / FILE, external_data=weights > ONE_FILE)
    return said


def _read(folder: Path) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        folder / FILE, sess_options=options, providers=["CPUExecutionProvider"]
    )

    def encode(clips: Tensor) -> Features:
        clip, frames = session.run(OUTPUTS, {"clips": clips.numpy()})
        return torch.from_numpy(clip), torch.from_numpy(frames)

    return Loaded(encode)


ONNX = Format(
    require=_require,
    write=_write,
    read=_read,
    library="onnx",
    usage="""\
import numpy as np, onnxruntime
encoder = onnxruntime.InferenceSession({place} + "/encoder.onnx")
mean, std = (np.float32(x).reshape(3, 1, 1, 1) for x in ({mean}, {std}))
clip, frames = encoder.run(None, {{"clips": (clips - mean) / std}})  # clips (B, 3, T, H, W), float32 RGB in [0, 1]""",
)
