"""The commands on a checkpoint as a user types them: what they print, write and exit with."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.command_line import FAST, one_line
from vidssl.evaluation.probes.splits import Splits
from vidssl.files import newest_checkpoint, seal
from vidssl.models.export import save_encoder
from vidssl.models.load import load


def test_zero_shot(vidssl, checkpoint, sprites):
    code, out, _ = vidssl("zero-shot", checkpoint, sprites / "val", *FAST)
    assert code == 0
    for row in ("trained", "untrained", "debiased (transductive)", "majority class", "chance"):
        assert row in out
    [file] = (checkpoint / "results").glob("zero-shot-*.json")
    result = json.loads(file.read_text())
    assert (
        result["classes"]["texts"][0] == "a shape moving to the right"
    )  # found in classes.csv beside the data
    assert result["templates"]["list"] == ["{}.", "a video of {}.", "a photo of {}."]
    assert result["scores"]["chance"]["top1"] == pytest.approx(1 / 3)
    assert result["scores"]["trained"]["total"] == 9
    assert result["sampling"]["frames"] == 4
    assert {"packages", "git_commit", "python"} <= result["environment"].keys()


def test_linear_probe_and_knn(vidssl, checkpoint, sprites, tmp_path):
    for command in ("linear-probe", "knn"):
        file = tmp_path / f"{command}.json"
        code, out, _ = vidssl(
            command, checkpoint, sprites / "train", sprites / "val", *FAST, "--output", file
        )
        assert code == 0
        assert "untrained" in out
        assert "motion energy" in out
        assert {"trained", "chance"} <= {
            name.split(",")[0] for name in json.loads(file.read_text())["scores"]
        }


def test_every_video_is_its_own_nearest_neighbour(vidssl, checkpoint, sprites, tmp_path):
    """Features, labels and file order would have to be mixed up for this to be below 1."""
    file = tmp_path / "knn.json"
    assert (
        vidssl("knn", checkpoint, sprites / "val", sprites / "val", "--k", 1, *FAST, "--output", file)[0] == 0
    )
    assert json.loads(file.read_text())["scores"]["trained, k = 1"]["top1"] == 1.0


def test_extract_and_classify(vidssl, checkpoint, sprites, tmp_path):
    code, out, _ = vidssl("extract", checkpoint, sprites / "val", tmp_path / "f.safetensors", *FAST)
    assert code == 0
    assert load_file(tmp_path / "f.safetensors")["features"].shape == (9, 32)
    record = json.loads((tmp_path / "f.json").read_text())
    assert record["videos"][0]["path"].endswith(".mp4")
    video = next((sprites / "val").rglob("*.mp4"))
    code, out, _ = vidssl(
        "classify",
        checkpoint,
        video,
        "--labels",
        "moving left, growing",
        *FAST,
        "--output",
        tmp_path / "c.json",
    )
    assert code == 0
    assert "moving left" in out
    probabilities = json.loads((tmp_path / "c.json").read_text())["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1)


def test_models_with_a_sigmoid_say_what_fits_by_itself(vidssl, checkpoint, sprites, tmp_path):
    encoder = load(checkpoint)
    encoder.text.logit_bias = -3.0
    folder = save_encoder(encoder, tmp_path / "sigmoid")
    video = next((sprites / "val").rglob("*.mp4"))
    results = []
    for labels in ("moving left, growing", "growing, moving left, spinning"):
        arguments = ("--labels", labels, *FAST, "--output", tmp_path / "c.json")
        code, out, _ = vidssl("classify", folder, video, *arguments)
        assert code == 0
        assert "by itself" in out
        results.append(json.loads((tmp_path / "c.json").read_text()))
    first, second = (result["matches"] for result in results)
    assert all(second[name] == pytest.approx(value, rel=1e-3) for name, value in first.items())
    odds = {name: math.log(value / (1 - value)) for name, value in second.items()}
    shares = results[1]["probabilities"]
    difference = odds["growing"] - odds["spinning"]  # the bias is the same for all names
    assert difference == pytest.approx(math.log(shares["growing"] / shares["spinning"]), abs=1e-3)


def test_a_broken_video_is_reported_and_counts_as_wrong(vidssl, checkpoint, sprites, tmp_path):
    data = tmp_path / "val"
    shutil.copytree(sprites / "val", data)
    broken = next((data / "growing").iterdir())
    broken.write_bytes(b"not a video")
    file = tmp_path / "r.json"
    code, out, _ = vidssl("zero-shot", checkpoint, data, *FAST, "--output", file)
    assert code == 0
    assert f"counted as wrong: {broken}" in out.replace("\n", "")
    result = json.loads(file.read_text())
    assert result["scores"]["trained"]["failed"] == 1
    assert result["scores"]["trained"]["total"] == 9


def test_weights_that_are_not_finite_are_an_error_that_names_the_file(vidssl, checkpoint, sprites, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(checkpoint, run, ignore=shutil.ignore_patterns("results"))
    file = newest_checkpoint(run) / "encoder" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("ln_post.weight"))
    tensors[name] = tensors[name] * float("nan")
    save_file(tensors, file)
    seal(file.parents[1])  # written so by a run that diverged, not damaged later
    train, val = sprites / "train", sprites / "val"
    for command in (
        ("zero-shot", run, val),
        ("linear-probe", run, train, val),
        ("knn", run, train, val),
        ("extract", run, val, tmp_path / "x.safetensors"),
        ("classify", run, next(val.rglob("*.mp4")), "--labels", "one,two"),
    ):
        message = one_line(*vidssl(*command, *FAST))
        assert f"{file}: 1 of {len(tensors)} tensors are not finite ({name})" in message
    assert not (tmp_path / "x.safetensors").exists() and not (run / "results").exists()


def test_the_same_prompts_are_encoded_once(vidssl, checkpoint, sprites, monkeypatch, tmp_path):
    module = import_module("vidssl.evaluation.zero_shot")  # the package exports the function of that name
    classifier, encoded = module.text_classifier, []

    def counted(encoder, *given):
        encoded.append(encoder)
        return classifier(encoder, *given)

    monkeypatch.setattr(module, "text_classifier", counted)
    code, out, _ = vidssl(
        "zero-shot", checkpoint, sprites / "val", "--output", tmp_path / "result.json", *FAST
    )
    assert code == 0 and "untrained" in out
    assert len(encoded) == 1


def test_features_that_overflow_are_counted_as_wrong_and_named(
    vidssl, checkpoint, sprites, tmp_path, monkeypatch
):
    """Finite weights, and one video of each split for which the encoder gives nothing finite."""
    from vidssl.evaluation.features import means, sources

    plain = means.encoder_source

    def overflowing(encoder, name, kinds):
        source = plain(encoder, name, kinds)

        def run(clips):
            bad = clips.flatten(1).sum(1) == broken
            return {
                kind: rows.clone().index_fill_(0, bad.nonzero()[:, 0], torch.inf)
                for kind, rows in source.run(clips).items()
            }

        return replace(source, run=run) if name == "trained" else source

    sums = []
    monkeypatch.setattr(
        sources,
        "motion_energy",
        lambda clips: sums.extend(clips.flatten(1).sum(1)) or clips.flatten(1)[:, :4],
    )
    train, val = sprites / "train", sprites / "val"
    options = (*FAST, "--batch-size", 1, "--no-cache")
    file = tmp_path / "r.json"
    assert vidssl("knn", checkpoint, val, val, *options, "--output", file, "--k", 1)[0] == 0
    clean = json.loads(file.read_text())["scores"]
    broken = sums[0]
    monkeypatch.setattr(means, "encoder_source", overflowing)
    for command in (("zero-shot", checkpoint, val), ("linear-probe", checkpoint, train, val)):
        code, out, _ = vidssl(*command, *options, "--output", file)
        assert code == 0
        assert "features are not finite (trained" in out and "counted as wrong" in out
        scores = json.loads(file.read_text())["scores"]
        assert (scores["trained"]["failed"], scores["untrained"]["failed"]) == (1, 0)
    code, out, _ = vidssl("knn", checkpoint, val, val, *options, "--output", file, "--k", 1)
    result = json.loads(file.read_text())
    assert result["scores"]["trained, k = 1"]["correct"] == 8
    assert result["scores"]["untrained, k = 1"] == clean["untrained, k = 1"]
    assert result["comparisons"]["trained, k = 1"]["only_second"] == 1
    assert "left out of training" in out
    assert "9 of 9 test videos are in the training split too" in out
    assert vidssl("extract", checkpoint, val, tmp_path / "f.safetensors", *options)[0] == 0
    tensors = load_file(tmp_path / "f.safetensors")
    assert tensors["ok"].sum() == 8 and bool(tensors["features"].isfinite().all())
    assert "not finite" in json.loads((tmp_path / "f.json").read_text())["data"]["failed"][0]["reason"]
    message = one_line(
        *vidssl("classify", checkpoint, val / result["val"]["failed"][0]["path"], "--labels", "a,b", *options)
    )
    assert "finite for none of the 1 video" in message


def test_probabilities_that_are_not_finite_are_an_error(vidssl, checkpoint, sprites, tmp_path):
    encoder = tmp_path / "encoder"
    shutil.copytree(checkpoint / "initial", encoder)
    config = json.loads((encoder / "config.json").read_text())
    config["text"]["logit_scale"] = float("nan")
    (encoder / "config.json").write_text(json.dumps(config))
    video = next((sprites / "val").rglob("*.mp4"))
    assert "logit_scale" in one_line(*vidssl("classify", encoder, video, "--labels", "a,b", *FAST))


def test_options_that_cannot_be_are_one_line_before_anything_is_loaded(vidssl, sprites):
    assert "k=0: must be at least 1" in one_line(*vidssl("knn", "no", "no", "no", "--k", 0))
    for command in (
        ("zero-shot", "no", "no"),
        ("knn", "no", "no", "no"),
        ("extract", "no", "no", "no.safetensors"),
        ("dynamics", "no", sprites / "val"),
    ):
        message = one_line(*vidssl(*command, "--device", "foo"))
        assert "device='foo': not on this machine" in message


def test_more_neighbours_than_videos_and_a_top_5_of_one_neighbour(vidssl, checkpoint, sprites, tmp_path):
    data = tmp_path / "data"
    for split in ("train", "val"):
        for number, video in enumerate(sorted((sprites / split).rglob("*.mp4"))):
            folder = data / split / f"class {number % 7}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, folder / f"{number}.mp4")
    file = tmp_path / "r.json"
    arguments = ("--k", 1, "--k", 5, "--k", 24, "--k", 1000, "--output", file)
    code, out, _ = vidssl("knn", checkpoint, data / "train", data / "val", *FAST, *arguments)
    assert code == 0 and "k = 1000: there are 24 training videos" in out
    result = json.loads(file.read_text())
    assert result["k"] == [1, 5, 24]
    assert [name for name in result["scores"] if name.startswith("trained")] == [
        f"trained, k = {k}" for k in (1, 5, 24)
    ]
    assert "top5" not in result["scores"]["trained, k = 1"] and "top5" in result["scores"]["trained, k = 5"]


def test_a_result_never_overwrites_another(vidssl, checkpoint, sprites, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(checkpoint, run, ignore=shutil.ignore_patterns("results"))
    knn = ("knn", run, sprites / "train", sprites / "val", *FAST, "--k")
    for arguments in ((1,), (2,), (1, "--frames", 2), (1,)):
        assert vidssl(*knn, *arguments)[0] == 0
    files = list((run / "results").iterdir())
    assert len(files) == 3  # the last measurement is the first again
    assert all("step" in file.name for file in files)


def test_checkpoint_of_another_architecture(vidssl, checkpoint, sprites, tmp_path):
    broken = tmp_path / "encoder"
    shutil.copytree(checkpoint / "initial", broken)
    config = json.loads((broken / "config.json").read_text())
    config["spec"]["model_cfg"]["vision_cfg"]["width"] = 128
    (broken / "config.json").write_text(json.dumps(config))
    message = one_line(*vidssl("zero-shot", broken, sprites / "val", *FAST))
    assert "model.safetensors" in message


def test_two_processes_evaluate_like_one(checkpoint, sprites, tmp_path):
    results = []
    for processes in (1, 2):
        file = tmp_path / f"{processes}.json"
        done = subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes),
             "--main_process_port", "0", "--num_cpu_threads_per_process", "1", "-m", "vidssl", "linear-probe",
             str(checkpoint), str(sprites / "train"), str(sprites / "val"), "--clips", "1", "--workers", "0",
             "--output", str(file)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(file.read_text())
        assert result["environment"]["processes"] == processes
        results.append(result["scores"])
    assert results[0] == results[1]


def test_a_model_is_evaluated_by_its_name(vidssl, checkpoint, sprites, tiny_clip, tmp_path, monkeypatch):
    """Even in a run's folder: its untrained encoder is not that of the named model."""
    place = tmp_path / "run"
    shutil.copytree(checkpoint, place, ignore=shutil.ignore_patterns("results"))
    monkeypatch.chdir(place)
    source = f"local-dir:{tiny_clip}"
    code, _, _ = vidssl("zero-shot", source, sprites / "val", *FAST, "--frames", 4)
    assert code == 0
    [file] = (place / "results").glob("zero-shot-*.json")
    assert tiny_clip.name in file.name
    result = json.loads(file.read_text())
    assert result["checkpoint"] == source
    assert result["model"]["pretrained"] == source
    assert not [name for name in result["scores"] if name.startswith("untrained")]
    folder = tmp_path / "same.json"
    vidssl("zero-shot", tiny_clip, sprites / "val", *FAST, "--frames", 4, "--output", folder)
    assert json.loads(folder.read_text())["scores"] == result["scores"]
    assert not (tiny_clip / "results").exists()


def test_random_weights_are_said(vidssl, sprites, tmp_path, monkeypatch):
    from open_clip import factory

    from tests.tiny_clip import TINY_CONFIG

    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", TINY_CONFIG)
    output = ("--output", tmp_path / "r.json")
    code, out, _ = vidssl("knn", "ViT-tiny", sprites / "val", sprites / "val", *FAST, "--k", 1, *output)
    assert code == 0
    assert "ViT-tiny names no weights: these are random" in out
    assert "random weights, k = 1" in out and "trained" not in out
    assert "trained, k = 1" in json.loads((tmp_path / "r.json").read_text())["scores"]
    shutil.copy(tmp_path / "r.json", tmp_path / "again.json")
    given = ("compare", tmp_path / "r.json", tmp_path / "again.json", "--output", tmp_path / "page")
    code, out, _ = vidssl(*given)
    assert code == 0 and "random weights" in out
    labels = [one["label"] for one in json.loads((tmp_path / "page" / "compare.json").read_text())["results"]]
    assert labels == ["ViT-tiny, random weights (r)", "ViT-tiny, random weights (again)"]


def test_a_size_that_the_tower_cannot_take_is_one_line_before_a_video_is_opened(
    vidssl, checkpoint, sprites, tmp_path
):
    data = tmp_path / "val"
    shutil.copytree(sprites / "val", data)
    for video in data.rglob("*.mp4"):
        video.write_bytes(b"not a video")
    message = one_line(*vidssl("zero-shot", checkpoint, data, *FAST, "--size", 30))
    assert "clips of 30x30 pixels: both sides must be multiples of 8" in message


def test_attentive_probe(vidssl, checkpoint, sprites, tmp_path):
    file = tmp_path / "r.json"
    grid = ("--rate", 1e-3, "--rate", 1e-2, "--decay", 0.1, "--epochs", 2)
    command = ("attentive-probe", checkpoint, sprites / "train", sprites / "val", *FAST)
    code, out, _ = vidssl(*command, *grid, "--output", file)
    assert code == 0 and "untrained" in out
    result = json.loads(file.read_text())
    assert result["task"] == "attentive-probe" and result["rate_grid"] == [1e-3, 1e-2]
    assert list(result["scores"]) == ["trained", "untrained", "majority class", "chance"]
    assert result["comparisons"]["trained"]["to"] == "untrained"
    assert "layer=1: is of patches" in one_line(*vidssl(*command, "--layer", 1))


def test_retrieval(vidssl, checkpoint, sprites, tmp_path):
    file, val = tmp_path / "r.json", sprites / "val"
    command = ("retrieval", checkpoint, val, *FAST, "--output", file)
    code, out, _ = vidssl(*command)
    assert code == 0 and "R@1 [95 % interval]" in out
    result = json.loads(file.read_text())
    assert list(result["scores"]) == ["trained", "untrained", "motion energy", "chance"]
    assert result["scores"]["chance"]["R@1"] == pytest.approx(2 / 8)
    assert result["scores"]["trained"]["total"] == 9
    assert "is the data itself" in one_line(*vidssl(*command, "--gallery", val))
    shutil.copytree(val, tmp_path / "copy")
    code, out, _ = vidssl(*command, "--gallery", tmp_path / "copy")
    scores = json.loads(file.read_text())["scores"]
    assert code == 0 and scores["trained"]["R@1"] == 1 and scores["chance"]["R@1"] == pytest.approx(1 / 3)
    assert "9 of 9 test videos are in the training split too" in out
    captions = tmp_path / "captions.csv"
    names = sorted(path.relative_to(val) for path in val.rglob("*.mp4"))
    captions.write_text(
        "video_id,sentence\n" + "".join(f"{name},a {name.parent}\n" * 2 for name in names[:4])
    )
    code, out, _ = vidssl(*command, "--captions", captions)
    result = json.loads(file.read_text())
    assert code == 0 and "trained, text to video" in out
    assert result["scores"]["trained, text to video"]["total"] == 8 == result["captions"]["sentences"]
    assert result["scores"]["trained, video to text"]["total"] == 4 == result["data"]["videos"]
    with captions.open("a") as stream:
        stream.write("gone,nothing\n")
    assert "1 of its videos are not in" in one_line(*vidssl(*command, "--captions", captions))
    assert vidssl(*command, "--captions", captions, "--missing", "count")[0] == 0
    score = json.loads(file.read_text())["scores"]["trained, text to video"]
    assert (score["total"], score["failed"]) == (9, 1)
    assert "leave it out" in one_line(*vidssl(*command, "--captions", captions, "--gallery", val))


def test_finetune(vidssl, checkpoint, sprites, tmp_path, monkeypatch):
    monkeypatch.setattr(Splits, "suspicions", lambda _, predictions: [f"judged: {list(predictions)}"])
    file, saved = tmp_path / "r.json", tmp_path / "tuned"
    command = ("finetune", checkpoint, sprites / "train", sprites / "val", *FAST, "--output", file)
    code, out, _ = vidssl(*command, "--epochs", 1, "--shots", 2, "--train-batch-size", 3, "--save", saved)
    assert code == 0 and "untrained" in out
    result = json.loads(file.read_text())
    assert result["tuned_on"] == 6 and len(result["losses"]["trained"]) == 1
    assert "judged: ['trained', 'untrained']" in result["notes"]
    assert list(result["scores"]) == ["trained", "untrained", "majority class", "chance"]
    before, after = (load(folder).state_dict() for folder in (checkpoint, saved))
    assert before.keys() == after.keys() and any(not torch.equal(before[key], after[key]) for key in before)
    assert "is not empty" in one_line(*vidssl(*command, "--save", saved))
