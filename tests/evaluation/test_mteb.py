"""An encoder in tasks of mteb: tiny ones, of rendered videos, whose scores are computed here by other means too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, zero_shot
from vidssl.evaluation.mteb import MtebEncoder

pytest.importorskip("mteb", reason="mteb is not installed (extra mteb)")
pytest.importorskip(
    "torchcodec", reason="torchcodec, with which mteb decodes, is not installed", exc_type=Exception
)

pytestmark = pytest.mark.slow  # the import of mteb alone takes seconds

NAMES = ("growing", "moving left", "noise")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight pictures of each class, held for a second."""
    root, rng = tmp_path_factory.mktemp("mteb"), np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        for video in range(4):
            shade = np.uint8([40, 120, 200])[np.roll([0, 1, 2], number)]
            frames = np.clip(shade + rng.normal(0, 25, (8, 32, 32, 3)), 0, 255).astype(np.uint8)
            write_video(root / name / f"{video}.mp4", frames, fps=8)
    return root


@pytest.fixture(scope="module")
def task_of(videos):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Video
    from mteb.abstasks import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    paths = [str(videos / name / f"{video}.mp4") for name in NAMES for video in range(4)]
    rows = {"video": paths, "label": [number for number in range(3) for _ in range(4)]}
    table = Dataset.from_dict(
        rows, features=Features({"video": Video(), "label": ClassLabel(names=list(NAMES))})
    )
    about = {
        "description": "rendered", "dataset": {"path": "none/none", "revision": "1"}, "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"], "main_score": "accuracy",
    }  # fmt: skip

    class ZeroShot(AbsTaskZeroShotClassification):
        metadata = TaskMetadata(
            name="Tiny",
            type="VideoZeroshotClassification",
            category="v2t",
            modalities=["video", "text"],
            **about,
        )
        input_column_name = "video"

        def load_data(self, **_):
            self.dataset, self.data_loaded = DatasetDict(test=table), True

        def get_candidate_labels(self):
            return list(NAMES)

    class Probe(AbsTaskClassification):
        metadata = TaskMetadata(
            name="TinyProbe", type="VideoClassification", category="v2c", modalities=["video"], **about
        )
        input_column_name, samples_per_label, n_experiments = "video", 2, 2

        def load_data(self, **_):
            self.dataset, self.data_loaded = DatasetDict(train=table, test=table), True

    return {"zero-shot": ZeroShot, "probe": Probe}


def run(encoder, task):
    import mteb

    found = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return found.task_results[0].scores["test"][0]


def test_zero_shot_of_mteb_is_ours(tiny_clip, videos, task_of):
    source = f"local-dir:{tiny_clip}"
    theirs = run(MtebEncoder(source, frames=4, device="cpu"), task_of["zero-shot"]())
    options = EvalOptions(frames=4, seconds=float("inf"), workers=0, device="cpu", cache=False)
    ours = zero_shot(source, videos, templates="{}", options=options)
    assert theirs["accuracy"] == pytest.approx(ours["scores"]["trained"]["top1"])


def test_a_probe_of_an_encoder_without_texts(task_of):
    encoder = MtebEncoder("conv3d/small", frames=4, device="cpu")
    assert encoder.mteb_model_meta.modalities == ["video"]
    assert 0 <= run(encoder, task_of["probe"]())["accuracy"] <= 1
    with pytest.raises(ValueError, match="modalities"):  # mteb refuses it before anything is encoded
        run(encoder, task_of["zero-shot"]())
    with pytest.raises(VidsslError, match="no text tower"):
        encoder.encode(torch.utils.data.DataLoader([{"text": "x"}]))


def test_similarities_are_cosines(tiny_clip):
    encoder = MtebEncoder(f"local-dir:{tiny_clip}", device="cpu")
    a, b = np.random.default_rng(0).normal(size=(2, 3, 5))
    expected = torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)).float()
    expected = expected @ F.normalize(torch.from_numpy(b), dim=1).float().T
    torch.testing.assert_close(encoder.similarity(a, b), expected)
    torch.testing.assert_close(encoder.similarity_pairwise(a, b), expected.diagonal())
    with pytest.raises(VidsslError, match="audio, video: an input must be a video or a text"):
        encoder.encode(torch.utils.data.DataLoader([{"video": 1, "audio": 2}]))
