"""Whether the batches of a recipe are ones for batch norm: it needs other videos beside a video, and to see them at once."""

from __future__ import annotations

from vidssl.config import Config
from vidssl.errors import VidsslError
from vidssl.models.batch_norm import has_batch_norm
from vidssl.models.student import Student


def check_batch_norm(student: Student, config: Config) -> None:
    """Batch norm compares the videos of a whole batch: it needs more than one, and the encoder to see them at once.

    Raises:
        VidsslError: naming the key, when batch size or accumulation do not allow this.
    """
    train = config.train
    of_encoder = config.data.features is None and has_batch_norm(student.encoder)  # or it is not run
    heads = [name for name, head in student.heads.items() if has_batch_norm(head)]
    if train.batch_size == 1 and (of_encoder or heads):
        where = f"model.name={config.model.name}" if of_encoder else f"the head of objective.{heads[0]}"
        instead = "" if of_encoder else f", or objective.{heads[0]}.norm=layer"
        raise VidsslError(
            f"train.batch_size=1: {where} has batch norm, which needs at least 2 videos{instead}"
        )
    if train.accumulation > 1 and of_encoder:
        raise VidsslError(
            f"train.accumulation={train.accumulation}: model.name={config.model.name} has batch norm, whose statistics "
            "are those of the whole batch; set it to 1"
        )
