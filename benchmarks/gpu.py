"""Everything that only a GPU can tell, in one call of at most nine minutes: GPU tests and measurements, most valuable first.

    python benchmarks/gpu.py                               # one card of 80 GB or more; results in benchmarks/results/gpu/
    python benchmarks/gpu.py --videos /data/clips          # training reads real files; rendered ones otherwise, made on the spot
    python benchmarks/gpu.py --device cpu --quick          # whether the plan works, at toy sizes

Each part is a process of its own with a share of the time. Its record is written as soon as it is done, also where it failed or ran over its
share, which then costs the others nothing; what it had measured until then is in it. Nothing is downloaded: weights are random.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "gpu"
MINUTES = 9.0  # of all parts together, and of what comes before them: the videos take half a minute of a core


class Part(NamedTuple):
    """A process to run. `seconds`: its share of the time. `{out}` in its words is the file, `{folder}` the folder, for what it measures."""

    name: str
    seconds: float
    words: Sequence[str]


def plan(device: str, quick: bool, videos: Path) -> list[Part]:
    """The parts, most valuable first; with `quick` at toy sizes, and each may take all of the time."""
    python, here = sys.executable, str(Path(__file__))
    own = [
        python,
        here,
        "--device",
        device,
        *(["--quick"] if quick else []),
        "--videos",
        str(videos),
        "--output",
        "{out}",
        "--run",
    ]
    beside, tests = str(Path(__file__).parent), ROOT / "tests"
    marked = sorted(str(file) for file in tests.rglob("test_*.py") if "mark.gpu" in file.read_text(encoding="utf-8"))  # fmt: skip
    toy = {
        "objectives": ["--rows", "64", "--repeats", "1"],
        "views": ["--batch", "2", "--frames", "2", "--height", "48", "--width", "64", "--repeats", "1"],
        "dynamics": ["--repeats", "1", "--budget", "0.01"],
    }

    def script(name: str, *words: str) -> list[str]:
        return [python, f"{beside}/{name}.py", "--device", device, *words, *(toy[name] if quick else [])]

    parts = [
        Part("step", 145, [*own, "step"]),
        Part("tests", 80, [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *marked]),
        Part("training", 105, [*own, "training"]),
        Part("recipes", 70, [*own, "recipes"]),
        Part("objectives", 45, script("objectives", "--quick", "--output", "{folder}")),
        Part("views", 25, script("views", "--batch", "32", "--output", "{out}")),
        Part("dynamics", 40, script("dynamics", "--quick", "--output", "{folder}")),
    ]
    return [part._replace(seconds=60 * MINUTES) for part in parts] if quick else parts


def run_parts(parts: Sequence[Part], results: Path, seconds: float) -> list[dict[str, Any]]:
    """Run one part after the other, none longer than its share or than what is left of `seconds`; returns their records."""
    results.mkdir(parents=True, exist_ok=True)
    end, records = time.monotonic() + seconds, []
    for part in parts:
        left = end - time.monotonic()
        record: dict[str, Any] = {
            "part": part.name,
            "command": f"python benchmarks/gpu.py --only {part.name}",
            "state": "no time left",
        }
        if left > 1:
            record |= _run(part, results, min(part.seconds, left))
        (results / f"{part.name}.json").write_text(json.dumps(record, indent=1) + "\n")
        records.append(record)
        print(f"{part.name}: {record['state']}, {record.get('seconds', 0)} s", flush=True)
    return records


def _run(part: Part, results: Path, limit: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        out, said = Path(place) / "out.json", Path(place) / "said.txt"
        words = [
            word.replace("{out}", str(out)).replace("{folder}", str(results / part.name))
            for word in part.words
        ]
        started = time.monotonic()
        with said.open("wb") as log:
            child = subprocess.Popen(
                words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )  # fmt: skip
            try:
                state = (
                    "done" if (code := child.wait(timeout=limit)) == 0 else f"failed with exit code {code}"
                )
            except subprocess.TimeoutExpired:
                state = f"ran over its {limit:.0f} s"
        with suppress(ProcessLookupError):  # and its decoding workers
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        measured: Any = None
        with suppress(OSError, ValueError):
            measured = json.loads(out.read_text())
        tail = said.read_text(errors="replace")[-3000:].splitlines()
    return {
        "state": state,
        "seconds": round(time.monotonic() - started, 1),
        "measured": measured,
        "said": tail,
    }


def wait(device: str) -> None:
    """Until the device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def timed(device: str, repeats: int, step: Callable[[], object]) -> list[float]:
    """Seconds of each of `repeats` steps, after two that are not counted."""
    taken = []
    for _ in range(repeats + 2):
        wait(device)
        started = time.perf_counter()
        step()
        wait(device)
        taken.append(time.perf_counter() - started)
    return taken[2:]


def measure_step(device: str, quick: bool, keep: Callable[[dict[str, Any]], None]) -> None:
    """Forward, backward and AdamW of an encoder in bf16: divided ViT-B/16 at 8 x 224², compiled, with .9 of its tokens dropped, and transformers'."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import TimesformerConfig, TimesformerModel

    import vidssl
    from vidssl.utilisation import peak_rate

    frames, size, batch, repeats = (2, 32, 2, 1) if quick else (8, 224, 16, 10)
    name = "timm/vit_tiny_patch16_224" if quick else "timm/vit_base_patch16_224"
    clips, keys = torch.randn(batch, 3, frames, size, size, device=device), torch.arange(batch)
    tiny = (
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        if quick
        else {}
    )
    found: dict[str, Any] = {"frames": frames, "size": size, "clips": batch, "torch": torch.__version__}
    if device != "cpu":
        found["device"] = torch.cuda.get_device_name()

    def ours(**options: Any) -> torch.nn.Module:
        return vidssl.create_model(name, temporal="divided", image_size=size, **options)

    def forward(module: Any) -> torch.Tensor:
        return module(clips, keys=keys).clip if module.token_drop else module(clips).clip  # type: ignore[no-any-return]

    variants: dict[str, tuple[Callable[[], Any], Callable[[Any], torch.Tensor], bool]] = {
        "divided": (ours, forward, False),
        "divided, compiled": (ours, forward, True),
        "divided, .9 dropped": (lambda: ours(token_drop=0.9), forward, False),
        "transformers TimeSformer": (
            lambda: TimesformerModel(TimesformerConfig(num_frames=frames, image_size=size, **tiny)),
            lambda module: module(clips.transpose(1, 2)).last_hidden_state[:, 0],
            False,
        ),
    }
    if quick:
        variants = {key: value for key, value in variants.items() if not value[2]}
    for key, (build, feature, compiled) in variants.items():
        try:
            torch.manual_seed(0)
            module = build().to(device).train()
            optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

            def step(module: Any = module, optimizer: Any = optimizer, feature: Any = feature) -> None:
                with torch.autocast(torch.device(device).type, torch.bfloat16):
                    loss = feature(module).float().square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            with FlopCounterMode(display=False) as counter:
                step()
            if compiled:
                module.compile()
            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(device, repeats, step)
            peak, flops = peak_rate(torch.device(device), half=True), counter.get_total_flops()
            found[key] = {
                "seconds": [round(value, 5) for value in seconds],
                "GFLOP": round(flops / 1e9, 1),
                "MFU": round(flops / statistics.median(seconds) / peak, 4) if peak else None,
                "MiB": torch.cuda.max_memory_allocated() // 2**20 if device != "cpu" else None,
            }
            del module, optimizer
        except Exception as error:  # noqa: BLE001  # the other variants are worth their own numbers
            found[key] = {"error": f"{type(error).__name__}: {error}"[:500]}
        keep(found)


def measure_training(device: str, quick: bool, videos: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """A run of SSL-HSIC on files: clips a second, share of waiting for data and MFU, by its own log, for numbers of workers, and compiled."""
    from vidssl.config import validate_config
    from vidssl.training import pretrain

    found: dict[str, Any] = {}
    cases: list[tuple[int, bool]] = [(0, False)] if quick else [(12, False), (4, False), (12, True)]
    for workers, compiled in cases:
        with tempfile.TemporaryDirectory() as place:
            recipe = {
                "output": f"{place}/run",
                "data": {"train": str(videos), "window_seconds": 2.0, "decode_size": 64 if quick else 256, "workers": workers, "repeats": 1 if quick else 2},
                "views": [{"frames": 4 if quick else 8, "size": 32 if quick else 224, "seconds": 0.8}],
                "model": {"name": "conv3d/small"} if quick else {"name": "timm/vit_base_patch16_224"},
                "objective": {"hsic": {}},
                "train": {"batch_size": 4 if quick else 32, "steps": 3 if quick else 40, "log_every": 1, "checkpoint_every": 1000, "compile": compiled},
            }  # fmt: skip
            key = f"{workers} workers{', compiled' if compiled else ''}"
            try:
                run = pretrain(validate_config(recipe, "recipe"))
                lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
                late = lines[len(lines) // 2 :]
                found[key] = {
                    name: statistics.median(line[name] for line in late)
                    for name in ("clips_per_second", "data_wait", "mfu")
                    if name in late[-1]
                }
            except Exception as error:  # noqa: BLE001
                found[key] = {"error": f"{type(error).__name__}: {error}"[:500]}
            keep(found)


def measure_recipes(device: str, quick: bool, videos: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """Dry runs of the large recipes: what is reckoned beside what a GPU says that it held."""
    from vidssl.config import load_config
    from vidssl.training.recipes.dry_run import dry_run

    found: dict[str, Any] = {}
    names = (
        ["demo"]
        if quick
        else ["hsic", "sslhsic_drop_vit_b16", "lejepa_drop_vit_b16", "long_videos_vit_t16", "lss_vit_b16"]
    )
    for name in names:
        try:
            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            words = [f"data.train={videos}", f"output={tempfile.gettempdir()}/vidssl-none/{name}"]
            cost = dry_run(load_config(name, words), random_weights=True)
            found[name] = {key: cost[key] for key in ("steps", "parameters", "bytes", "seconds", "device")}
            if device != "cpu":
                found[name]["MiB at most, of two clips"] = torch.cuda.max_memory_allocated() // 2**20
        except Exception as error:  # noqa: BLE001
            found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
        keep(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="toy sizes")
    parser.add_argument("--videos", type=Path, help="folder of videos; rendered ones when left out")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of all together")
    parser.add_argument("--only", nargs="+", help="names of parts")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--run", choices=("step", "training", "recipes"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device, quick = arguments.device, arguments.quick
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "1"
    if arguments.run:
        from vidssl.files import write_json

        def keep(found: dict[str, Any]) -> None:
            write_json(arguments.output, found)

        if arguments.run == "step":
            measure_step(device, quick, keep)
        else:
            measure = {"training": measure_training, "recipes": measure_recipes}[arguments.run]
            measure(device, quick, arguments.videos, keep)
        return
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device: --device cpu --quick tries the plan without one")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        videos = arguments.videos
        if videos is None:
            from vidssl.synthetic.motions import write_sprite_dataset

            count, frames, size = (4, 16, 48) if quick else (48, 72, 320)
            write_sprite_dataset(Path(place), classes=("growing", "shrinking"), clips_per_class_train=count, clips_per_class_val=1, frames=frames, size=size)  # fmt: skip
            videos = Path(place) / "train"
        parts = plan(device, quick, videos.resolve())
        chosen = [part for part in parts if not arguments.only or part.name in arguments.only]
        records = run_parts(chosen, arguments.output, 60 * arguments.minutes - (time.monotonic() - began))
    sys.exit(0 if all(record["state"] == "done" for record in records) else 1)


if __name__ == "__main__":
    main()
