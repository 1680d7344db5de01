"""Small runs: starting them as users do, finding their processes, and comparing what they leave with an undisturbed one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import yaml
from safetensors.torch import load_file

from tests.tiny_clip import write_tiny_clip
from vidssl.files import checkpoints_of, damage, read_json
from vidssl.synthetic.motions import write_sprite_dataset

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 12, 3  # of a run; from one checkpoint to the next
LIMIT = 300.0  # seconds after which a start that has not ended counts as hanging
LINGER = 20.0  # seconds in which all processes of a run that ended must be gone
CLASSES = ("moving_right", "moving_left", "growing")
MARK = "HARM_START"  # in the environment of all processes of a start


class Fault(Exception):
    """A run that did what none may do."""


@dataclass
class Start:
    """One start of a command: its process, what marks its processes, and where its output goes."""

    process: subprocess.Popen[bytes]
    mark: str
    output: Path

    @property
    def said(self) -> str:
        """Standard output and error so far."""
        return self.output.read_text(errors="replace")

    def running(self) -> bool:
        return self.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All that are alive and were started by it, the oldest first."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return sorted(found, key=lambda one: one.create_time())

    def rank(self, number: int) -> psutil.Process | None:
        """The process of this rank, not its workers."""
        for process in self.processes():
            with suppress(psutil.Error, OSError):
                parent = process.parent()
                is_child = parent is not None and "RANK" in parent.environ()
                if process.environ().get("RANK") == str(number) and not is_child:
                    return process
        return None

    def workers(self) -> list[psutil.Process]:
        """The decoding processes."""
        with suppress(psutil.Error):
            return [
                child
                for child in psutil.Process(self.process.pid).children()
                if "probe_worker" not in " ".join(child.cmdline()) and "vidssl" in " ".join(child.cmdline())
            ]
        return []

    def end(self, within: float = LIMIT) -> int:
        """The exit code, when the process and all that it started are gone.

        Raises:
            Fault: when they are not in time; they are ended.
        """
        try:
            code = self.process.wait(within)
            self.wait_for(lambda: not self.processes(), LINGER, "left processes behind", while_running=False)
        except subprocess.TimeoutExpired:
            raise Fault(f"hung: no end within {within:g} s; it had said: {self.said[-600:]!r}") from None
        finally:
            for process in self.processes():
                with suppress(psutil.Error):
                    process.kill()
            self.process.wait()
        return code

    def wait_for(
        self, there: Callable[[], bool], within: float, what: str, while_running: bool = True
    ) -> bool:
        """Wait until `there()`; False when the start ended before.

        Raises:
            Fault: when it takes too long.
        """
        until = time.monotonic() + within
        while not there():
            if while_running and not self.running():
                return False
            if time.monotonic() > until:
                raise Fault(f"{what} after {within:g} s")
            time.sleep(0.002)
        return True


@dataclass
class Bench:
    """The place where runs are disturbed: a copy of the package, a small CLIP, videos, a recipe, and undisturbed runs."""

    root: Path
    rng: np.random.Generator
    references: dict[str, Path] = field(default_factory=dict)
    starts: int = 0
    begin: float = 10.0  # seconds from a start to its first step

    def __post_init__(self) -> None:
        # A copy: a run goes on under the same version only, and somebody may be at work on the sources. `python -m` looks into
        # the working directory first, so nothing is started where these are.
        shutil.copytree(
            ROOT / "vidssl", self.root / "package/vidssl", ignore=shutil.ignore_patterns("__pycache__")
        )
        self.videos = self.root / "videos"
        write_tiny_clip(self.root / "clip")
        write_sprite_dataset(
            self.videos, CLASSES, clips_per_class_train=8, clips_per_class_val=0, frames=12, size=32
        )
        clip = f"local-dir:{self.root / 'clip'}"
        heads = {"projector": [32, 16], "predictor": [32, 16]}
        recipe = {
            "output": "run",
            "data": {"train": str(self.videos / "train"), "window_seconds": None, "decode_size": 32, "workers": 1},
            "views": [{"frames": 4, "seconds": 1.0, "size": 32, "scale": [0.5, 1.0], "blur_p": 0.0}],
            "model": {"name": clip, "pretrained": clip},
            "objective": {"hsic": {"gamma": 1.0, "estimator": "exact", **heads}},
            "train": {"batch_size": 8, "steps": STEPS, "lr": 1e-3, "precision": "fp32", "log_every": 1,
                      "checkpoint_every": EVERY, "keep_checkpoints": STEPS // EVERY},
        }  # fmt: skip
        (self.root / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def folder(self, name: str) -> Path:
        """A run folder that is not there yet."""
        self.starts += 1
        return self.root / "runs" / f"{self.starts:03d}_{name}"

    def spoilt_videos(self, names: list[str]) -> Path:
        """The training videos in a folder of their own, in which these are no videos."""
        root = self.folder("spoilt") / "train"
        shutil.copytree(self.videos / "train", root)
        for name in names:
            next(root.rglob(f"{name}.mp4")).write_bytes(b"this is no video")
        return root

    def environment(self, plan: dict[str, Any] | None = None) -> dict[str, str]:
        """That of all processes started here."""
        paths = [self.root / "package", *([Path(__file__).parent / "inject"] if plan else [])]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("HARM_")},
            **({"HARM_PLAN": json.dumps(plan)} if plan else {}),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "1",
            "MASTER_PORT": "0",
        }

    def start(
        self,
        run: Path,
        *overrides: str,
        resume: bool = True,
        processes: int = 1,
        plan: dict[str, Any] | None = None,
        largest_file: int | None = None,
    ) -> Start:
        """Start (or go on with) the run in a folder, in a session of its own.

        Args:
            processes: more than one are started by `accelerate launch`.
            plan: faults inside the processes, see inject/sitecustomize.py.
            largest_file: bytes; RLIMIT_FSIZE.
        """
        launcher = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes),
                    "--num_cpu_threads_per_process", "1"]  # fmt: skip
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "vidssl", "pretrain",
                   str(self.root / "recipe.yaml"), f"output={run}", *overrides, *(["--resume"] if resume else [])]  # fmt: skip

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return self._popen(command, self.environment(plan), limit)

    def script(self, *command: str) -> Start:
        """Start a Python command line that is no run."""
        environment = self.environment()
        environment["PYTHONPATH"] += os.pathsep.join(["", str(ROOT / "benchmarks"), str(ROOT)])
        return self._popen([sys.executable, *command], environment, lambda: None)

    def _popen(self, command: list[str], environment: dict[str, str], before: Callable[[], None]) -> Start:
        self.starts += 1
        output = self.root / "output" / f"{self.starts:03d}.txt"
        output.parent.mkdir(exist_ok=True)
        mark = f"{os.getpid()}.{self.starts}"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.root,
                env={**environment, MARK: mark},
                preexec_fn=before,
            )
        return Start(process, mark, output)

    def complete(self, run: Path, *overrides: str, **options: Any) -> Start:
        """Start, or go on, undisturbed to the last step."""
        start = self.start(run, *overrides, **options)
        if (code := start.end()) != 0:
            raise Fault(f"exit code {code} instead of 0: {start.said[-1500:]}")
        return start

    def reference(self, name: str = "undisturbed", *overrides: str, processes: int = 1) -> Path:
        """The folder of an undisturbed run, made when first asked for."""
        if name not in self.references:
            run = self.folder(name)
            began, start = time.monotonic(), self.start(run, *overrides, resume=False, processes=processes)
            start.wait_for(lambda: bool(log_lines(run)), LIMIT, "no step")
            self.begin = time.monotonic() - began
            if (code := start.end()) != 0:
                raise Fault(f"exit code {code} of an undisturbed run: {start.said[-1500:]}")
            self.references[name] = run
        return self.references[name]


def steps_logged(run: Path) -> list[int]:
    """The steps in the log, without a torn last line."""
    return [int(json.loads(line)["step"]) for line in log_lines(run)]


def log_lines(run: Path) -> list[str]:
    """Whole lines of the log."""
    with suppress(OSError):
        content = (run / "log.jsonl").read_text()
        return [line for line in content.split("\n")[:-1] if line.startswith("{") and line.endswith("}")]
    return []


def newest_whole(run: Path) -> int:
    """The step of the newest undamaged checkpoint; 0 without one."""
    for checkpoint in checkpoints_of(run):
        if damage(checkpoint) is None:
            return int(checkpoint.name.removeprefix("step_"))
    return 0


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    """Everything that the last step left, by file and name."""
    folder = run / "checkpoints" / f"step_{STEPS:08d}"
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{file.relative_to(folder)}:{name}": x for file in files for name, x in load_file(file).items()}


def require_equal(run: Path, reference: Path) -> None:
    """Insist that a run ended as the other did, to the last bit, and left nothing lying about.

    Raises:
        Fault: naming what differs.
    """
    if newest_whole(run) != STEPS:
        raise Fault(f"the newest whole checkpoint is that of step {newest_whole(run)}, not {STEPS}")
    ours, theirs = tensors_of(run), tensors_of(reference)
    if not theirs or ours.keys() != theirs.keys():
        raise Fault(f"other tensors: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    differing = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    if differing:
        raise Fault(
            f"{len(differing)} of {len(ours)} tensors differ from the undisturbed run: {differing[:3]}"
        )
    losses = [
        [(line["step"], line["loss"]) for line in map(json.loads, log_lines(one))] for one in (run, reference)
    ]
    if losses[0] != losses[1] or len(losses[0]) != STEPS:
        raise Fault(
            f"the log differs from that of the undisturbed run: steps {[step for step, _ in losses[0]]}"
        )
    if read_json(run / "latest.json")["stopped"] is not False:
        raise Fault("latest.json says that the run was stopped")
    if left := [str(path.relative_to(run)) for path in run.rglob(".*")]:
        raise Fault(f"left-over files: {left[:3]}")


def require_refusal(start: Start, code: int, *words: str) -> None:
    """Insist on an exit code and one line with these words.

    Raises:
        Fault: naming what it said instead.
    """
    lines = [line for line in start.said.replace("\r", "\n").split("\n") if "vidssl: " in line]
    if (
        code != 2
        or "Traceback" in start.said
        or len(lines) != 1
        or any(word not in lines[0] for word in words)
    ):
        raise Fault(f"exit code {code}, wanted 2 and one line with {words}: {start.said[-1500:]}")
