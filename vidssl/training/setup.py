"""Setting up a run: processes, videos, modules. Everything that can be wrong is found here, before step one."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vidssl.concepts.build import space_builder
from vidssl.config import Config
from vidssl.config.recipe import steps_of
from vidssl.data.dataset import ClipDataset
from vidssl.data.features.batch import FeatureBatch
from vidssl.data.features.dataset import FeatureDataset
from vidssl.data.manifest.quarantine import FailedVideo, Quarantine
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec
from vidssl.distributed import all_sum, gather_objects, gather_rows, is_distributed, on_first
from vidssl.errors import VidsslError
from vidssl.models.batch_norm import share_statistics
from vidssl.models.encoder import VideoEncoder
from vidssl.models.factory import create_model
from vidssl.models.student import Student
from vidssl.models.teacher import Teacher
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import Composite, build_objectives
from vidssl.training.accelerator import check_accelerator
from vidssl.training.checkpoints.files import load_checkpoint
from vidssl.training.checkpoints.state import State
from vidssl.training.conditions import conditions, require_same
from vidssl.training.folder import QUARANTINE, begin_folder, claim_folder, go_on_in_folder
from vidssl.training.lock import FolderLock
from vidssl.training.optim import freeze_parameters, learning_rate, make_optimizer
from vidssl.training.sharding import is_split, split
from vidssl.training.sources.batch_norm import check_batch_norm
from vidssl.training.sources.dataset import Batch, batches_of, training_dataset
from vidssl.training.sources.features import check_kept, read_kept
from vidssl.training.sources.videos import check_evaluation, read_videos
from vidssl.training.sources.views import view_specs
from vidssl.training.watchdog import Watchdog


@dataclass(kw_only=True)
class Run(State):
    """A run in memory: what it has learned, and all that it learns with.

    Attributes:
        views: of every clip, those that the teacher sees first.
        dataset, sampler: all videos; this process's share of the steps that are left.
        model: the student as accelerate runs it, forward and backward.
        anchor: the encoder as it was before training, where an objective wants to stay near it.
        lock: of the run folder, held by the first process.
        notes: what is to be said of how the run was resumed.
        watch: told what the step at hand is at.
    """

    config: Config
    accelerator: Accelerator
    views: tuple[ViewSpec, ...]
    dataset: ClipDataset | FeatureDataset
    sampler: GlobalBatchSampler
    model: nn.Module
    lock: FolderLock
    notes: tuple[str, ...] = ()
    anchor: VideoEncoder | None = None
    watch: Watchdog = field(default_factory=Watchdog)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.output)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return learning_rate(self.step, self.total_steps, self.config.train)

    def batches(self) -> Generator[tuple[Batch, float], None, None]:
        """Batches on the device from the current step on, each with the seconds spent waiting for it."""
        batches = batches_of(self.dataset, self.sampler, self.config.data.workers)
        paths, started = self.dataset.videos.paths, time.perf_counter()
        try:
            for batch in batches:
                self.watch.at(
                    "views", [paths[i] for i in batch.video_id.tolist()]
                )  # while ids are on the host
                yield batch.to(self.accelerator.device, non_blocking=True), time.perf_counter() - started
                started = time.perf_counter()
        finally:
            batches.close()

    def close(self) -> None:
        """Let go of the run folder."""
        self.lock.release()

    def render(self, batch: Batch) -> list[Tensor]:
        """A batch's views, (B, 3, T, S, S) each, normalised; of kept features (B, T, R)."""
        if isinstance(batch, FeatureBatch):
            return batch.views
        encoder = self.student.encoder
        return render_views(batch, self.views, encoder.mean, encoder.std)

    def seen_by_teacher(self, views: list[Tensor]) -> list[Tensor]:
        """Those of a batch's views that the teacher is shown."""
        return views[: sum(view.count for view in self.config.views if view.teacher)]

    def shown(self, batch: Batch) -> list[str]:
        """The videos of a step's global batch. Every process has to call this."""
        return [str(self.dataset.videos.path(i)) for i in gather_rows(batch.video_id).tolist()]

    def failures(self, batch: Batch) -> list[FailedVideo]:
        """The videos of a step's global batch that were replaced. Every process has to call this."""
        if not is_distributed():
            return list(batch.failures)
        if not int(all_sum(torch.tensor(len(batch.failures), device=batch.video_id.device))):
            return []  # nearly always, for the price of one number
        return [failure for own in gather_objects(batch.failures) for failure in own]

    @torch.no_grad()
    def anchored(self, info: BatchInfo, views: list[Tensor]) -> BatchInfo:
        """With what the anchor makes of each view; as it is without one."""
        if self.anchor is None:
            return info
        with self.accelerator.autocast():
            seen = [self.anchor(view) for view in views]
        frames = [features.frames for features in seen] if self.objective.needs_anchor_frames else []
        return info._replace(anchors=[features.clip for features in seen], anchor_frames=frames)


def set_up(
    config: Config, accelerator: Accelerator, resume: bool = False, accept_changes: bool = False
) -> Run:
    """Claim the run folder, check the videos, build the modules, go to where the run was left, and only then begin or go
    on in the run folder, which `Run.close` lets go of.

    Raises:
        VidsslError: for anything wrong with the recipe, the videos, the weights or the run folder, which is then as it was.
    """
    lock = FolderLock(Path(config.output))
    try:
        return _set_up(config, accelerator, resume, accept_changes, lock)
    except BaseException:
        lock.release()
        raise


def _set_up(
    config: Config, accelerator: Accelerator, resume: bool, accept_changes: bool, lock: FolderLock
) -> Run:
    data, train, device, folder = config.data, config.train, accelerator.device, Path(config.output)
    check_accelerator(accelerator)
    claim = on_first(lambda: claim_folder(folder, resume, lock))
    student, objective = build_student(config)
    check_evaluation(config, student.encoder)
    known = on_first(lambda: Quarantine(folder / QUARANTINE) if claim.begun else None)
    kept = data.features
    videos = on_first(lambda: read_videos(config, known) if kept is None else read_kept(kept))
    if videos.features is not None:
        check_kept(config, student.encoder, videos.features)
    index = videos.index
    views, said = view_specs(config, index.classes)
    for remark in (*index.remarks, *said, *_frozen(config)):
        accelerator.print(remark)
    now = {
        **on_first(lambda: conditions(videos, device, data.decoder)),
        "flips": [view.flip for view in views],
    }
    accepted = on_first(lambda: require_same(folder, config, now, accept_changes) if claim.begun else [])
    total_steps = train.steps or steps_of(train.epochs or 0.0, len(index), data.repeats, train.batch_size)
    sampler = GlobalBatchSampler(
        len(index),
        train.batch_size,
        num_processes=accelerator.num_processes,
        rank=accelerator.process_index,
        seed=config.seed,
        total_steps=total_steps,
        repeats=data.repeats,
        mixture=videos.mixture,
    )
    dataset = training_dataset(config, videos, views, known)
    student.to(device)
    objective.to(device)
    teacher, in_parts = Teacher(student), is_split(train)
    if train.compile:
        for module in (student, cast(Student, teacher.module)):
            module.encoder.compile_units()
    anchor = copy.deepcopy(student.encoder).requires_grad_(False).eval() if objective.needs_anchor else None
    initial = student.encoder.state_dict()
    if in_parts:
        initial = {} if claim.begun else {name: x.to("cpu", copy=True) for name, x in initial.items()}
        split(student, (teacher.module, *([] if anchor is None else [anchor])), device)
    run = Run(
        student=student,
        teacher=teacher,
        objective=objective,
        optimizer=make_optimizer(student, objective, train),
        seed=config.seed,
        total_steps=total_steps,
        config=config,
        accelerator=accelerator,
        views=views,
        dataset=dataset,
        sampler=sampler,
        model=student,
        videos=now["data"]["digest"],
        lock=lock,
        anchor=anchor,
        split=in_parts,
        watch=Watchdog(train.step_deadline, accelerator.process_index),
        notes=(*claim.notes, *(f"resumed under another condition: {change}" for change in accepted)),
    )
    if claim.checkpoint is not None:
        load_checkpoint(claim.checkpoint, run)

    def write() -> None:
        if claim.begun:
            go_on_in_folder(config, now, claim.checkpoint, run.step, accepted)
        else:
            begin_folder(config, now, videos.unusable, student.encoder, initial, lock)

    on_first(write)
    sampler.start_step = run.step
    # Of a split one accelerate is left the precision.
    run.model = (
        accelerator.prepare_model(student, evaluation_mode=True) if in_parts else accelerator.prepare(student)
    )
    return run


def _frozen(config: Config) -> tuple[str, ...]:
    """That the encoder which a run exports will not have learned, where it is so."""
    if config.teacher.momentum < 1.0:
        return ()
    return (
        "teacher.momentum=1: the teacher stays as it was, and its encoder is what exports and evaluations take: what the "
        "student learns is only in vidssl.runs.load_run(RUN, weights='student')",
    )


def build_student(config: Config) -> tuple[Student, Composite]:
    """The encoder with its pretrained weights, the objectives and their heads; the same on every process."""
    torch.manual_seed(config.seed)
    model, view = config.model, config.views[0]
    encoder = create_model(model.name, model.pretrained, temporal=model.temporal, **model.options)
    if config.teacher.token_drop and not encoder.token_drop:
        raise VidsslError("teacher.token_drop: has no effect without model.options.token_drop")
    for number, kind in enumerate(config.views):
        try:
            encoder.check_size(kind.frames, kind.size)
        except VidsslError as error:
            raise VidsslError(f"views.{number}: {error}") from None
    objective, heads = build_objectives(config.objective, encoder.embed_dim, space_builder(encoder.text))
    # How the first view is cut; evaluation takes it as its default.
    sampling = view.model_dump(include={"frames", "seconds", "stride", "size"})
    encoder.spec["sampling"] = {**sampling, "seconds": view.seconds or config.data.window_seconds}
    share_statistics(encoder)
    student = Student(encoder, heads, micro_batches=config.train.accumulation)
    check_batch_norm(student, config)
    freeze_parameters(student, model.freeze, config.train.pretrained_lr_scale)
    return student, objective


@torch.no_grad()
def warm_start(run: Run) -> None:
    """Before the first step, show objectives that start from statistics what the teacher makes of the first clips.

    Raises:
        VidsslError: when features are not finite; statistics would stay so.
    """
    parts = [part for _, part in run.objective.items() if part.warm_start_clips]
    if not parts or run.step > 0:
        return
    wanted = min(max(part.warm_start_clips for part in parts), len(run.dataset))
    rows: list[Tensor] = []
    for batch, _ in islice(run.batches(), math.ceil(wanted / run.config.train.batch_size)):
        views = run.seen_by_teacher(run.render(batch))
        with run.accelerator.autocast():
            rows += [gather_rows(run.averaged.encoder(view).clip.float()) for view in views]
    features = torch.cat(rows)
    if not features.isfinite().all():
        raise VidsslError(
            f"model.name={run.config.model.name}: features of the first {wanted} videos are not finite before any step; "
            "look at model.pretrained"
        )
    for part in parts:
        part.warm_start(features)
