"""The training loop: the same code on one CPU and on many GPUs.

    vidssl pretrain configs/hsic.yaml data.train=videos/train
    accelerate launch -m vidssl pretrain configs/hsic.yaml data.train=videos/train

Which clips a step sees, and how they are cut and coloured, is a function of (seed, step) alone; the loss is that of the
global batch on every process. Together with the checkpoint's contents this makes a resumed run equal to an
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import copy
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.distributed as dist
from torch import Tensor

from vidssl import distributed
from vidssl.config import Config
from vidssl.data.batch import ClipBatch
from vidssl.data.dataset import ClipDataset
from vidssl.data.loader import build_loader
from vidssl.data.manifest.quarantine import write_quarantine
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.render import render_views
from vidssl.errors import VidsslError
from vidssl.launching import asked_for_cpu
from vidssl.models.encoder import VideoEncoder
from vidssl.models.heads import HeadOutput
from vidssl.models.student import Student
from vidssl.models.teacher import Teacher, cosine_momentum
from vidssl.objectives.base import BatchInfo, ObjectiveOutput
from vidssl.objectives.leaks import leaks
from vidssl.training import monitor
from vidssl.training import setup as run
from vidssl.training.checkpoint import load_checkpoint, save_checkpoint
from vidssl.training.optim import learning_rate, parameter_groups, set_learning_rate
from vidssl.training.report import RunLog

if TYPE_CHECKING:
    from accelerate import Accelerator

MAX_SKIPPED_IN_A_ROW = 20


def pretrain(config: Config, resume: bool = False) -> Path:
    """Train the encoder that `config` describes; returns the run folder.

    Args:
        config: a validated recipe.
        resume: continue the run in ``config.output`` from its last checkpoint.

    Raises:
        VidsslError: for anything wrong with the recipe, the videos, the weights or the run folder.
    """
    accelerator = run.make_accelerator(_precision(config), config.train.trackers)
    return Trainer(config, accelerator, resume).train()


class Trainer:
    """A run: its modules, its position, its loop."""

    def __init__(self, config: Config, accelerator: Accelerator, resume: bool) -> None:
        self.config, self.accelerator = config, accelerator
        self.folder = Path(config.output)
        checkpoint = run.on_main(accelerator, lambda: run.prepare_folder(config, resume))
        self.index, bad = run.on_main(accelerator, lambda: run.read_videos(config))
        self.total_steps = self._total_steps()
        self._sampler(0)  # says now, not after loading the model, when the batch size does not fit
        self.student, self.objective = run.build_student(config)
        encoder = self.student.encoder
        self.mean, self.std = encoder.mean, encoder.std
        self.views = run.view_specs(config.views)
        self.seen_by_teacher = [view.teacher for view in config.views for _ in range(view.count)]
        device = accelerator.device
        self.student.to(device)
        self.objective.to(device)
        self.teacher = Teacher(self.student)
        self.anchor = self._anchor()
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.student,
                self.objective.param_groups(),
                lr=config.train.lr,
                weight_decay=config.train.weight_decay,
                pretrained_lr_scale=config.train.pretrained_lr_scale,
                layer_decay=config.train.layer_decay,
                pretrained=encoder.spec["pretrained"] is not None,
            ),
            lr=config.train.lr,
            betas=config.train.betas,
            eps=config.train.eps,
        )
        if accelerator.is_main_process:
            run.begin(config, bad, encoder, device)
        self.step, self.skipped, self.failed_videos = 0, 0, 0
        if checkpoint is not None:
            self._restore(checkpoint)
        self.wrapped = accelerator.prepare(self.student)
        self.stop_requested, self.warned = False, False

    # -- the loop ------------------------------------------------------------------------------------------------------

    def train(self) -> Path:
        """Run to the last step (or to a SIGTERM, after which the run can be resumed)."""
        config = self.config.train
        log = RunLog(
            self.folder / "log.jsonl", self.step, self.total_steps, enabled=self.accelerator.is_main_process
        )
        self.log = log
        for warning in leaks(self.student, self.objective):
            log.say(warning)
        if config.trackers:
            self.accelerator.init_trackers("vidssl", config=self.config.model_dump(mode="json"))
        every = config.checkpoint_every or max(self.total_steps // 10, 1)
        try:
            with self._stop_on_signal():
                self._warm_start()
                for batch, waited in self._batches():
                    started = time.perf_counter()
                    logs = self._train_step(batch)
                    self._report(batch, logs, waited, time.perf_counter() - started)
                    stop = self._should_stop()
                    if self.step % every == 0 or self.step == self.total_steps or stop:
                        self._save()
                    if stop:
                        log.say(f"stopped after step {self.step}; continue with --resume")
                        break
        finally:
            log.close()
            if config.trackers:
                self.accelerator.end_training()
        return self.folder

    @torch.no_grad()
    def _warm_start(self) -> None:
        """Before the first step, show objectives that start from statistics what the teacher makes of the first clips."""
        parts = [part for _, part in self.objective.items() if part.warm_start_clips]
        if not parts or self.step > 0:
            return
        wanted = min(max(part.warm_start_clips for part in parts), len(self.index))
        rows: list[Tensor] = []
        encoder = cast(Student, self.teacher.module).encoder
        for done, (batch, _) in enumerate(self._batches(), start=1):
            views = render_views(batch, self.views, self.mean, self.std)
            with self.accelerator.autocast():
                rows += [
                    distributed.gather_rows(encoder(view).clip.float())
                    for view, shown in zip(views, self.seen_by_teacher, strict=True)
                    if shown
                ]
            if done * self.config.train.batch_size >= wanted:
                break
        for part in parts:
            part.warm_start(torch.cat(rows))

    def _train_step(self, batch: ClipBatch) -> dict[str, Tensor]:
        set_learning_rate(self.optimizer, self._learning_rate())
        self.objective.set_progress(self.step / self.total_steps)
        views = render_views(batch, self.views, self.mean, self.std)
        outputs = self.wrapped(views)
        info = BatchInfo(batch.video_id, batch.times, anchors=self._anchors(views))
        output = self._loss(views, outputs.heads, info)
        logs = {**output.logs, "loss": output.loss.detach()}
        self.step += 1
        if self._is_logged(self.step):
            logs |= monitor.representation_logs([features.clip for features in outputs.features[:2]])
        if torch.isfinite(output.loss):  # the same value on every process, so all of them agree
            self.accelerator.backward(output.loss)
            logs["grad_norm"] = self._update()
            self.skipped = 0
        else:
            self._skip()
        return logs

    def _loss(
        self, views: list[Tensor], heads: dict[str, list[HeadOutput]], info: BatchInfo
    ) -> ObjectiveOutput:
        targets = None
        if self.objective.needs_teacher:
            seen = [view for view, shown in zip(views, self.seen_by_teacher, strict=True) if shown]
            with torch.no_grad(), self.accelerator.autocast():
                targets = self.teacher(seen).heads
        output: ObjectiveOutput = self.objective(heads, targets, info)
        return output

    def _anchor(self) -> VideoEncoder | None:
        """The encoder as it was before training, where an objective wants to stay near it."""
        if not self.objective.needs_anchor:
            return None
        return copy.deepcopy(self.student.encoder).requires_grad_(False).eval()

    @torch.no_grad()
    def _anchors(self, views: list[Tensor]) -> list[Tensor]:
        """What it makes of each view."""
        if self.anchor is None:
            return []
        with self.accelerator.autocast():
            return [self.anchor(view).clip for view in views]

    def _update(self) -> Tensor:
        self._average_objective_gradients()
        limit = self.config.train.clip_grad or float("inf")
        norm: Tensor = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step()
        progress = cosine_momentum(
            self.step, self.total_steps, self.config.teacher.momentum, self.config.teacher.final
        )
        self.teacher.update(self.student, progress)
        return norm.detach()

    def _average_objective_gradients(self) -> None:
        """Keep the objective's own parameters equal to the last bit: their gradients come from global rows and agree
        already up to the order of additions."""
        if distributed.is_distributed():
            for parameter in self.objective.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= distributed.world_size()

    def _skip(self) -> None:
        self.skipped += 1
        self.log.say(f"step {self.step}: the loss is not finite; update skipped ({self.skipped} in a row)")
        if self.skipped >= MAX_SKIPPED_IN_A_ROW:
            raise VidsslError(
                f"{self.folder}: the loss was not finite {self.skipped} times in a row; "
                "lower train.lr or set train.precision=fp32"
            )

    # -- data ----------------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[tuple[ClipBatch, float]]:
        """Batches on the device from the current step on, each with the seconds spent waiting for it."""
        data = self.config.data
        dataset = ClipDataset(
            self.index,
            self.views,
            window_seconds=data.window_seconds,
            decode_size=data.decode_size,
            seed=self.config.seed,
            max_attempts=data.max_attempts,
            backend=data.decoder,
        )
        loader = build_loader(dataset, self._sampler(self.step), num_workers=data.workers)
        batches = iter(loader)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            yield batch.to(self.accelerator.device, non_blocking=True), time.perf_counter() - started

    def _sampler(self, start_step: int) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            len(self.index),
            self.config.train.batch_size,
            num_processes=self.accelerator.num_processes,
            rank=self.accelerator.process_index,
            seed=self.config.seed,
            start_step=start_step,
            total_steps=self.total_steps,
        )

    def _total_steps(self) -> int:
        train = self.config.train
        if train.steps is not None:
            return train.steps
        assert train.epochs is not None
        return max(round(train.epochs * (len(self.index) // train.batch_size)), 1)

    # -- reports and checkpoints ---------------------------------------------------------------------------------------

    def _report(self, batch: ClipBatch, logs: dict[str, Tensor], waited: float, worked: float) -> None:
        self._quarantine(batch)
        self.log.advance()
        if not self._is_logged(self.step):
            return
        values = {name: float(value) for name, value in logs.items()}
        clips = self.config.train.batch_size * len(self.seen_by_teacher)
        record = {
            "step": self.step,
            **values,
            "lr": self._learning_rate(),
            "clips_per_second": clips / (waited + worked),
            "data_wait": waited / (waited + worked),
            "failed_videos": self.failed_videos,
        }
        self.log.step(record)
        warning = monitor.warning(values, self.student.encoder.embed_dim)
        if warning and not self.warned:  # once for each time it sets in
            self.log.say(f"step {self.step}: {warning}")
        self.warned = warning is not None
        if self.config.train.trackers:
            self.accelerator.log(record, step=self.step)

    def _is_logged(self, step: int) -> bool:
        """The first ten steps (where things go wrong), every `log_every`-th and the last."""
        return step <= 10 or step % self.config.train.log_every == 0 or step == self.total_steps

    def _quarantine(self, batch: ClipBatch) -> None:
        """Name the videos that failed on this process and were replaced."""
        for failure in batch.failures:
            self.failed_videos += 1
            write_quarantine(self.folder / run.QUARANTINE, [failure])
            self.log.say(f"{failure.path}: {failure.reason}; replaced ({self.failed_videos} clips so far)")

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.folder,
                self.step,
                student=self.student,
                teacher=cast(Student, self.teacher.module),
                objective=self.objective,
                optimizer=self.optimizer,
                state={"seed": self.config.seed, "total_steps": self.total_steps, "skipped": self.skipped},
                keep=self.config.train.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()

    def _restore(self, checkpoint: Path) -> None:
        state = load_checkpoint(
            checkpoint,
            student=self.student,
            teacher=cast(Student, self.teacher.module),
            objective=self.objective,
            optimizer=self.optimizer,
        )
        for key, now in (("seed", self.config.seed), ("total_steps", self.total_steps)):
            if state[key] != now:
                raise VidsslError(
                    f"{checkpoint}: was written with {key} {state[key]}, this configuration has {now}"
                )
        self.step, self.skipped = state["step"], state["skipped"]

    # -- small things --------------------------------------------------------------------------------------------------

    def _learning_rate(self) -> float:
        train = self.config.train
        return learning_rate(
            self.step, self.total_steps, base=train.lr, warmup=train.warmup, final=train.min_lr
        )

    def _should_stop(self) -> bool:
        """Whether any process was asked to stop; all of them then stop after the same step."""
        if self.stop_requested:
            self.accelerator.set_trigger()
        return bool(self.accelerator.check_trigger())

    @contextlib.contextmanager
    def _stop_on_signal(self) -> Iterator[None]:
        def request(*_: object) -> None:
            self.stop_requested = True

        previous = signal.signal(signal.SIGTERM, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)


def _precision(config: Config) -> str:
    if config.train.precision == "auto":
        on_gpu = torch.cuda.is_available() and not asked_for_cpu()
        return "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no"
    return {"fp32": "no", "bf16": "bf16"}[config.train.precision]
