"""`vidssl interpolate`: between a run's encoder and the one it started from, as an exported encoder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from vidssl.errors import VidsslError
from vidssl.files import require_other_file
from vidssl.models.export import save_encoder
from vidssl.models.interpolate import interpolate
from vidssl.models.load import load_encoder
from vidssl.models.stored import find_encoder
from vidssl.runs import find_initial


def interpolate_run(
    checkpoint: str | Path, output: str | Path, alpha: float = 0.5, other: str | Path | None = None
) -> dict[str, Any]:
    """Export alpha · trained + (1 - alpha) · other; see `interpolate`.

    Args:
        checkpoint: run folder, checkpoint folder or exported encoder.
        output: folder of the new encoder. Inside the run folder, evaluations still find the untrained encoder and the
            vocabulary of training.
        alpha: share of the trained encoder.
        other: the other end, a folder or the name of a model; by default ``initial/`` of the run.

    Returns:
        JSON-able: `output`, `alpha`, and the folders of the two ends.

    Raises:
        VidsslError: when there is no other end, the two do not fit, or `output` is an encoder of the run or one of them.
    """
    initial = find_initial(Path(checkpoint))
    start = initial if other is None else other
    if start is None:
        raise VidsslError(
            f"{checkpoint}: the encoder it started from is not kept beside it; name the other end with --other"
        )
    read: list[Path] = []
    for end in (checkpoint, start, *([] if initial is None else [initial])):
        with suppress(VidsslError):  # the name of a model
            read.append(find_encoder(end))
    for folder in read:
        require_other_file(Path(output), folder)
    mixed = interpolate(load_encoder(checkpoint), load_encoder(start), alpha)
    save_encoder(mixed, output)
    return {"output": str(output), "alpha": alpha, "trained": str(checkpoint), "other": str(start)}
