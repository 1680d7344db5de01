from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vidssl
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.training import pretrain


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Everything a checkpoint holds, by file and name."""
    folder = run / json.loads((run / "latest.json").read_text())["checkpoint"]
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def launch(arguments: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """The command as users start it on several processes."""
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes),
         "--num_cpu_threads_per_process", "1", "-m", "vidssl", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "MASTER_PORT": "0"},
        check=False,
    )  # fmt: skip


def train_on_cpu(recipe: Path, run: Path) -> Path:
    """In a process of its own, as accelerate chooses the device once and prefers a GPU."""
    command = [sys.executable, "-m", "vidssl", "pretrain", str(recipe), f"output={run}"]
    subprocess.run(command, check=True, timeout=240, env={**os.environ, "ACCELERATE_USE_CPU": "1"})
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu"
    return run


@pytest.fixture
def trained(recipe: Path) -> Path:
    return pretrain(load_config(recipe))


def test_a_run_leaves_what_it_promises(trained):
    assert {"config.yaml", "environment.json", "log.jsonl", "latest.json", "checkpoints", "initial"} <= {
        path.name for path in trained.iterdir()
    }
    assert [folder.name for folder in sorted((trained / "checkpoints").iterdir())] == [
        "step_00000003",
        "step_00000006",
    ]
    log = log_of(trained)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "clips_per_second", "data_wait", "lr", "hsic/hsic_xy"} <= line.keys() for line in log)
    assert not list(trained.rglob("*.partial")) and not list(trained.rglob("*.pt")) + list(
        trained.rglob("*.pkl")
    )
    before, after = vidssl.load(trained / "initial"), vidssl.load(trained)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert not torch.equal(before(clips).clip, after(clips).clip)
    assert after.spec["sampling"]["frames"] == 4
    assert load_config(trained / "config.yaml") == load_config(trained.parent / "recipe.yaml")


def test_resumed_run_equals_one_never_stopped(recipe, trained, tmp_path):
    resumed = tmp_path / "resumed"
    # What a kill between steps 3 and 6 leaves: the log runs ahead of the last complete checkpoint.
    shutil.copytree(trained, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step_00000006")
    (resumed / "latest.json").write_text('{"checkpoint": "checkpoints/step_00000003"}')
    (resumed / "checkpoints" / ".step_00000006.partial").mkdir()
    with (resumed / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    pretrain(load_config(recipe, [f"output={resumed}"]), resume=True)
    assert_same(weights_of(trained), weights_of(resumed))
    assert [line["loss"] for line in log_of(resumed)] == [line["loss"] for line in log_of(trained)]


def test_sigterm_saves_and_the_rest_is_bit_identical(recipe, trained, tmp_path):
    stopped = tmp_path / "stopped"
    command = [
        sys.executable,
        "-m",
        "vidssl",
        "pretrain",
        str(recipe),
        f"output={stopped}",
        "train.checkpoint_every=100",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (stopped / "log.jsonl").is_file() or not (stopped / "log.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    pretrain(load_config(recipe, [f"output={stopped}", "train.checkpoint_every=100"]), resume=True)
    assert_same(weights_of(trained), weights_of(stopped))


def test_micro_batches_give_the_whole_batchs_losses(recipe, trained, tmp_path):
    pieces = pretrain(load_config(recipe, ["train.accumulation=4", f"output={tmp_path / 'pieces'}"]))
    for ours, reference in zip(log_of(pieces), log_of(trained), strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], abs=1e-5)


def test_worker_count_changes_nothing(recipe, trained, tmp_path):
    workers = pretrain(load_config(recipe, ["data.workers=2", f"output={tmp_path / 'workers'}"]))
    assert_same(weights_of(trained), weights_of(workers))


def test_two_processes_have_the_losses_of_one(recipe, trained, tmp_path):
    run = tmp_path / "two"
    done = launch(["pretrain", str(recipe), f"output={run}"], processes=2)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    one = train_on_cpu(recipe, tmp_path / "one") if torch.cuda.is_available() else trained
    ours, reference = log_of(run), log_of(one)
    assert len(ours) == len(reference)
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_a_broken_video_is_named_and_the_run_goes_on(recipe, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    broken = next((data / "growing").iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    run = pretrain(load_config(recipe, [f"data.train={data}"]))
    assert broken.name in (run / "quarantine.csv").read_text()
    assert len(log_of(run)) == 6


def test_a_video_that_breaks_during_training_is_replaced_counted_and_named(recipe, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    for file in list((data / "growing").iterdir())[:4]:
        file.write_bytes(b"no video")
    run = pretrain(load_config(recipe, [f"data.train={data}", "data.check=false"]))
    assert log_of(run)[-1]["failed_videos"] > 0
    assert len((run / "quarantine.csv").read_text().splitlines()) >= 2


def test_mistakes_leave_nothing_behind(recipe, sprites, tmp_path):
    empty = tmp_path / "empty"
    (empty / "class").mkdir(parents=True)
    unreadable = tmp_path / "unreadable"
    shutil.copytree(sprites / "train", unreadable)
    for file in (unreadable / "growing").iterdir():
        file.write_bytes(b"no video")
    for override, message in (
        (f"data.train={tmp_path / 'nowhere'}", "nowhere"),
        (f"data.train={empty}", "empty"),
        (f"data.train={unreadable}", "growing"),
        ("train.batch_size=1000", "1000"),
        ("objective.hsic.gama=1", "did you mean 'gamma'"),
        ("model.pretrained=local-dir:/nowhere", "nowhere"),
        ("model.name=ViT-B-17", "ViT-B-1"),
        ("model.options={frmes: 3}", "frmes"),
    ):
        with pytest.raises(VidsslError, match=message):
            pretrain(load_config(recipe, [override]))
        assert not (tmp_path / "run").exists(), override


def test_one_process_can_train_in_one_precision_after_another(recipe, tmp_path):
    runs = [
        pretrain(load_config(recipe, [f"train.precision={precision}", f"output={tmp_path / precision}"]))
        for precision in ("fp32", "bf16")
    ]
    exact, rounded = (weights_of(run)["encoder/model.safetensors:visual.proj"] for run in runs)
    start = load_file(runs[0] / "initial/model.safetensors")["visual.proj"]
    assert not torch.equal(exact, rounded)
    assert (rounded - exact).norm() < 0.5 * (exact - start).norm()


def test_an_accelerator_of_somebody_else_is_left_alone(recipe, tmp_path):
    code = """if True:
        import sys
        from accelerate import Accelerator
        from vidssl.config import load_config
        from vidssl.training import pretrain
        own = Accelerator(mixed_precision="bf16", cpu=True)
        try:
            pretrain(load_config(sys.argv[1], sys.argv[2:]))
        except Exception as error:
            print(type(error).__name__, error)
        print(own.mixed_precision)
    """
    command = [sys.executable, "-c", code, str(recipe), f"output={tmp_path / 'own'}"]
    out = subprocess.run(command, check=True, timeout=240, capture_output=True, text=True).stdout
    assert "VidsslError train.precision: this process has an Accelerator with mixed_precision='bf16'" in out
    assert out.splitlines()[-1] == "bf16"


@pytest.mark.parametrize(("cpu", "expected"), [("", "bf16"), ("false", "bf16"), ("true", "no"), ("1", "no")])
def test_auto_precision_follows_the_device_that_is_used(recipe, monkeypatch, cpu, expected):
    from vidssl.training.loop import _precision

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", cpu)
    assert _precision(load_config(recipe, ["train.precision=auto"])) == expected


def test_an_existing_run_is_not_overwritten(recipe, trained):
    with pytest.raises(VidsslError, match="--resume"):
        pretrain(load_config(recipe))
    with pytest.raises(VidsslError, match="seed"):
        pretrain(load_config(recipe, ["seed=1"]), resume=True)
    with pytest.raises(VidsslError, match="do not fit"):
        pretrain(
            load_config(recipe, ["objective.hsic.projector=[32, 8]", "objective.hsic.predictor=[32, 8]"]),
            resume=True,
        )


def test_nonfinite_losses_are_skipped_then_fatal(recipe, monkeypatch):
    from vidssl.objectives.base import ObjectiveOutput
    from vidssl.training.loop import Trainer

    original = Trainer._loss

    def poisoned(self, *arguments):
        output = original(self, *arguments)
        return ObjectiveOutput(output.loss * float("nan"), output.logs)

    monkeypatch.setattr(Trainer, "_loss", poisoned)
    run = pretrain(load_config(recipe))  # six steps: fewer than the limit
    assert torch.equal(
        load_file(run / "initial/model.safetensors")["visual.proj"],
        weights_of(run)["encoder/model.safetensors:visual.proj"],
    )
    with pytest.raises(VidsslError, match="20 times in a row"):
        pretrain(load_config(recipe, ["train.steps=30", f"output={run.parent / 'long'}"]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_as_a_cpu_does(recipe, tmp_path):
    runs = {}
    for name, precision in (("fp32", "fp32"), ("bf16", "auto")):
        runs[name] = pretrain(
            load_config(recipe, [f"train.precision={precision}", f"output={tmp_path / name}"])
        )
        environment = json.loads((runs[name] / "environment.json").read_text())
        assert environment["device"] == torch.cuda.get_device_name()
    reference = log_of(train_on_cpu(recipe, tmp_path / "cpu"))
    for name, tolerance in (("fp32", 1e-4), ("bf16", 3e-3)):  # the losses move by 2e-2
        for ours, theirs in zip(log_of(runs[name]), reference, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=tolerance), (name, ours["step"])
