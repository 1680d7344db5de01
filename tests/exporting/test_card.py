"""What the card of an export says, that its lines of Python run, and how it gets to the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.command_line import FAST, Run, one_line
from vidssl.errors import VidsslError
from vidssl.exporting import export
from vidssl.exporting.export import FORMATS
from vidssl.exporting.push import repo_of


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run, to be evaluated in."""
    copy = tmp_path_factory.mktemp("card") / "run"
    shutil.copytree(finished, copy)
    return copy


def test_a_card_of_a_run(run: Path, sprites: Path, tmp_path: Path, vidssl: Run) -> None:
    code, _, _ = vidssl("knn", run, sprites / "train", sprites / "val", "--k", 1, *FAST)
    assert code == 0
    [file] = (run / "results").iterdir()
    result = json.loads(file.read_text())
    old = result | {"loaded": str(run / "checkpoints" / "step_00000001")}
    (run / "results" / "old.json").write_text(json.dumps(old))
    (run / "results" / "torn.json").write_text("{")
    (run / "results" / "other.json").write_text(json.dumps({"task": "track", "scores": {"a": {"J": 0.5}}}))
    (tmp_path / "words.md").write_text("For sprites, and nothing else.\n")
    code, out, _ = vidssl(
        "export", run, tmp_path / "out", "--card", tmp_path / "words.md", "--license", "apache-2.0"
    )
    assert code == 0
    assert "README.md" in out
    text = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["license"], front["library_name"]) == ("apache-2.0", "vidssl")
    assert "For sprites, and nothing else." in text
    environment = json.loads((run / "environment.json").read_text())
    assert f"24 videos, whose list has the digest `{environment['data']['digest']}`; step_00000006" in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| knn")]
    shown = {row[3].strip(): row[4].strip() for row in rows}
    assert shown.keys() == result["scores"].keys()
    assert {"chance"} < shown.keys() and any("untrained" in name for name in shown)
    for name, score in result["scores"].items():
        assert shown[name].startswith(f"{100 * score['top1']:.1f} %")
    assert f"val, 9 videos, digest {result['val']['digest']}" in text
    assert "Not listed: 1 of other checkpoints of the run." in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["data"]["train"] == "train"
    assert recipe["objective"]["hsic"]["gamma"] == 1.0
    assert "output" not in recipe
    assert str(run.parent) not in text and str(sprites) not in text
    assert "Training began from local-dir:tiny-clip" in text

    export(run, tmp_path / "tower", alone=True)
    alone = (tmp_path / "tower" / "README.md").read_text()
    assert "| knn" not in alone
    assert "license: unknown" in alone and "Of these weights: not stated." in alone
    assert "(`temporal: divided`) is left out" in alone


@pytest.mark.parametrize("format", ["vidssl", "torch-export", "open_clip", "transformers"])
def test_the_lines_that_load_it_run(
    format: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = format in ("open_clip", "transformers")
    export(run, tmp_path / "out", format, frames=4, alone=alone)
    lines = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(lines.splitlines()) <= 5
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    clips = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 255
    names: dict[str, Any] = {"clips": clips, "images": [Image.fromarray(x) for x in frames]}
    exec(lines, names)
    from vidssl.exporting.image_tower import image_tower
    from vidssl.models.load import load_encoder

    encoder = image_tower(load_encoder(run)) if alone else load_encoder(run)
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (encoder.mean, encoder.std))
    with torch.no_grad():
        wanted = encoder((clips - mean) / std).clip[0]
    given = {
        "vidssl": lambda: names["features"].clip[0],
        "torch-export": lambda: names["clip"][0],
        "open_clip": lambda: names["clip"],
        "transformers": lambda: names["output"].pooler_output.mean(0),
    }[format]()
    torch.testing.assert_close(given.detach(), wanted, atol=1e-5, rtol=0)


class Hub:
    """What stands for the hub's client: remembers what it was asked, and refuses where it is told to."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.asked = refuses, list[Any]()

    def __getattr__(self, name: str) -> Any:
        def method(*arguments: Any, **options: Any) -> Any:
            self.asked.append(SimpleNamespace(name=name, arguments=arguments, options=options))
            if name == self.refuses:
                raise RuntimeError("401 Client Error:\n\nInvalid user token.")
            if name == "upload_folder":
                self.files = sorted(path.name for path in options["folder_path"].iterdir())
            return "https://hub/commit/1"

        return method


def hub(monkeypatch: pytest.MonkeyPatch, refuses: str = "", reachable: bool = True) -> Hub:
    made = Hub(refuses)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: made)
    monkeypatch.setattr("vidssl.exporting.push.hub_reachable", lambda: reachable)
    return made


def test_pushed_as_one_commit(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vidssl: Run
) -> None:
    client = hub(monkeypatch)
    code, out, _ = vidssl("export", run, tmp_path / "out", "--push", "hub:lab/sprites", "--private")
    assert code == 0
    assert "pushed to https://hub/commit/1" in out
    assert [call.name for call in client.asked] == ["whoami", "create_repo", "upload_folder"]
    assert client.asked[1].arguments == ("lab/sprites",)
    assert client.asked[1].options == {"private": True, "exist_ok": True}
    assert client.files == [
        "README.md",
        "config.json",
        "export.json",
        "model.safetensors",
        "text.safetensors",
    ]
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'vidssl.load_encoder(snapshot_download("lab/sprites"))' in text
    assert len(text.split("```python\n")[1].split("```")[0].splitlines()) <= 5


def test_what_keeps_it_from_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vidssl: Run
) -> None:
    def given(*arguments: str) -> str:
        return one_line(*vidssl("export", run, tmp_path / "out", *arguments))

    client = hub(monkeypatch, "whoami")
    assert "hub:a/b: not logged in" in given("--push", "hub:a/b")
    assert "hub:ORG/NAME" in given("--push", "a/b")
    hub(monkeypatch, reachable=False)
    assert "cannot be reached" in given("--push", "hub:a/b")
    assert "--card" in given("--card", str(tmp_path / "no.md"))
    assert [call.name for call in client.asked] == ["whoami"]
    assert list(tmp_path.iterdir()) == []
    hub(monkeypatch, "upload_folder")
    said = given("--push", "hub:a/b")
    assert (
        "is written and checked, but could not be pushed to a/b: 401 Client Error: Invalid user token."
        in said
    )
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.parametrize("target", ["hub:a", "hub:a/b/c", "hub:/b", "hub:a/b c", "a/b", "hub:a/\n"])
def test_names_of_repositories(target: str) -> None:
    with pytest.raises(VidsslError, match="must be hub:ORG/NAME"):
        repo_of(target)


def test_a_card_without_a_run(tmp_path: Path) -> None:
    export("conv3d/small", tmp_path / "out", frames=2, size=32)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "None were found beside this checkpoint." in text
    assert "Of no run of vidssl that is kept beside it. Began from random weights." in text


def test_the_encoder_before_the_first_step_was_not_trained(run: Path, tmp_path: Path) -> None:
    export(run / "initial", tmp_path / "out", frames=2)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Of no run of vidssl" in text and "| knn" not in text and "digest" not in text
    export(run / "checkpoints" / "step_00000006" / "encoder", tmp_path / "encoder", frames=2)
    assert "; step_00000006." in (tmp_path / "encoder" / "README.md").read_text()


def test_every_format_is_loaded_in_four_lines() -> None:
    for form in FORMATS.values():
        assert len(form.usage.splitlines()) <= 4
