"""The training loop: the same code on one CPU and on many GPUs.

    vidssl pretrain configs/hsic.yaml data.train=videos/train
    accelerate launch -m vidssl pretrain configs/hsic.yaml data.train=videos/train

Which clips a step sees, and how they are cut and coloured, is a function of (seed, step) alone; the loss is that of the
global batch on every process. Together with the checkpoint's contents this makes a resumed run equal to an
uninterrupted one.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from vidssl.data.batch import ClipBatch
from vidssl.data.views.draw import token_keys
from vidssl.distributed import average_gradients, gather_objects, on_first, put_together
from vidssl.errors import Stopped, VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.models.teacher import cosine_momentum
from vidssl.objectives.base import BatchInfo, ObjectiveOutput
from vidssl.runs import CONFIG
from vidssl.training.checkpoints.files import save_checkpoint, save_in_parts, take_snapshot
from vidssl.training.checkpoints.state import generator_states
from vidssl.training.checkpoints.writer import Writer
from vidssl.training.guard import BeforeStep, all_finite, skip
from vidssl.training.memory import is_out_of_memory, no_room_for_a_copy, out_of_memory
from vidssl.training.optim import set_learning_rate
from vidssl.training.periodic import Periodic
from vidssl.training.report import Report, representation_logs
from vidssl.training.setup import Run, warm_start
from vidssl.training.sources.dataset import Batch
from vidssl.training.stop import stop_on_signal


def train(run: Run) -> Path:
    """Train to the last step; returns the run folder, of which it lets go.

    Raises:
        VidsslError: when a checkpoint or the log cannot be written; the last checkpoint is then intact.
        Stopped: when a signal asked the run to stop, after a checkpoint was written.
    """
    every = run.config.train.checkpoint_every or max(run.total_steps // 10, 1)
    with (
        closing(run),
        closing(Writer(together=run.split)) as writer,
        closing(Report(run)) as report,
        stop_on_signal(run.accelerator) as request,
        run.watch as watch,
        closing(run.batches()) as batches,
    ):
        evaluate = Periodic(run)
        warm_start(run)
        watch.begin(run.step + 1)
        for batch, waited in batches:
            report.settle(run.step + 1)
            started = time.perf_counter()
            try:
                with report.work.counted():
                    logs = train_step(run, batch, report)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(run) from error
            report.settle(run.step)
            worked = time.perf_counter() - started
            if evaluate.is_due(run.step):
                watch.rest()
                try:
                    logs |= evaluate()
                except VidsslError as error:  # videos that were there when the run began; they do not end it
                    report.say(f"step {run.step}: not evaluated: {error}")
            watch.at("report")
            report.step(batch, logs, waited, worked)
            stop = request.anywhere(writer.failed)
            if run.step % every == 0 or run.step == run.total_steps or stop:
                watch.rest()
                try:
                    if stop:
                        on_first(writer.finish)
                    save(run, writer, stopped=stop)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise no_room_for_a_copy(run) from error
            if stop:
                raise Stopped(
                    f"stopped after step {run.step}{request.origin}; "
                    f"continue with `vidssl pretrain {run.folder / CONFIG} --resume`"
                )
            watch.begin(run.step + 1)
    return run.folder


def train_step(run: Run, batch: Batch, report: Report) -> dict[str, Tensor]:
    """One step of the optimiser, or none where loss or gradient is not finite; returns what there is to log."""
    before = BeforeStep(run)
    set_learning_rate(run.optimizer, run.learning_rate)
    run.objective.set_progress(run.step / run.total_steps)
    run.objective.keep_logs(report.is_due(run.step + 1))
    views = run.render(batch)
    run.watch.at("forward")
    keys = token_keys(batch) if isinstance(batch, ClipBatch) and run.student.encoder.token_drop else None
    outputs = run.model(views, keys)
    info = run.anchored(BatchInfo(batch.video_id, batch.times), views)
    output = compute_loss(run, views, outputs.heads, info, keys)
    run.step += 1
    run.watch.at("backward")
    run.accelerator.backward(output.loss)
    run.watch.at("update")
    norm, own_norm = gradient_norms(run)
    logs = {**output.logs, "loss": output.loss.detach(), "grad_norm": norm}
    if not all_finite(output.loss, norm, own_norm):
        skip(run, batch, before, report.say)
        return logs
    if report.is_due(run.step):
        logs |= representation_logs([features.clip for features in outputs.features[:2]])
    update(run)
    return logs


def compute_loss(
    run: Run,
    views: list[Tensor],
    heads: dict[str, list[HeadOutput]],
    info: BatchInfo,
    keys: list[Tensor] | None = None,
) -> ObjectiveOutput:
    """The objectives of the student's outputs, against the teacher's where they need them.

    The teacher leaves out what the student leaves out of the same view, unless `teacher.token_drop` says otherwise or it is frozen.
    """
    targets = None
    if run.objective.needs_teacher:
        seen = run.seen_by_teacher(views)
        dropped = keys[: len(seen)] if keys is not None and run.config.teacher.drops_tokens else None
        with run.accelerator.autocast():
            targets = run.teacher(seen, dropped).heads
    output: ObjectiveOutput = run.objective(heads, targets, info)
    return output


def gradient_norms(run: Run) -> tuple[Tensor, Tensor]:
    """The norms of the student's gradient, which is then clipped, and of what the objectives own."""
    # The objectives' own gradients come from global rows and agree already up to the order of additions.
    average_gradients(run.objective)
    own = [parameter.grad for parameter in run.objective.parameters() if parameter.grad is not None]
    limit = run.config.train.clip_grad or float("inf")
    norm: Tensor = put_together(run.accelerator.clip_grad_norm_(run.model.parameters(), limit))
    return norm.detach(), torch.nn.utils.get_total_norm(own).to(norm.device)


def update(run: Run) -> None:
    """Move the student, then the teacher after it."""
    run.skipped = 0
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.objective.after_step()
    teacher = run.config.teacher
    momentum = cosine_momentum(run.step, run.total_steps, teacher.momentum, teacher.final)
    run.teacher.update(run.student, momentum)


def save(run: Run, writer: Writer, stopped: bool = False) -> None:
    """A checkpoint. The first process copies what is to be written and goes on, and a thread of it writes; of a split run all
    processes do so, each with its part. After the last step, and where the run stops, it is whole when this returns.

    Raises:
        VidsslError: on all processes, when this one or (where it is being written still) the one before cannot be written.
    """
    generators, keep = (
        gather_objects(generator_states(run.accelerator.device)),
        run.config.train.keep_checkpoints,
    )

    def begin() -> None:
        snapshot = take_snapshot(run, generators)

        def write() -> None:
            run.lock.check()
            save_checkpoint(run.folder, snapshot, keep, stopped)

        writer.begin(write)

    on_first(writer.finish)
    if writer.group is not None:
        on_first(run.lock.check)
        writer.begin(save_in_parts(run.folder, run, generators, keep, writer.group, stopped))
    else:
        on_first(begin)
    if stopped or run.step == run.total_steps:
        on_first(writer.finish)
