from __future__ import annotations

import numpy as np
import pytest

from vidssl.reporting.grouping import Tightness
from vidssl.trying.words import next_steps, of_accuracies, of_clusters


def result(before, after, interval, motion=0.4, low=0.5, majority=0.35):
    def score(x):
        return {"top1": x, "top1_interval": (min(low, x), 1.0), "total": 40}

    return {
        "task": "linear-probe",
        "classes": {"names": ["a", "b", "c", "d"]},
        "scores": {
            "trained": score(after),
            "untrained": score(before),
            "motion energy": score(motion),
            "majority class": {"top1": majority},
            "chance": {"top1": 0.25},
        },
        "comparisons": {"trained": {"to": "untrained", "difference": after - before, "interval": interval}},
    }


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.01, 0.2), "Adaptation helped: +10.0 points [+1.0, +20.0]; the interval excludes zero."),
        ((0.0, 0.2), "No gain is shown: +10.0 points [+0.0, +20.0]; the interval does not exclude zero."),
        ((-0.3, -0.01), "Adaptation did harm"),
    ],
)
def test_a_gain_is_one_only_if_its_interval_excludes_zero(interval, said):
    lines = of_accuracies(result(0.6, 0.7, interval))
    assert "40 held-out videos of 4 classes" in lines[0] and "60.0 %" in lines[0] and "70.0 %" in lines[0]
    assert "at random is right for 25.0 %, the most frequent class for 35.0 %" in lines[0]
    assert "motion energy" in lines[0]
    assert lines[1].startswith(said) and len(lines) == 2


def test_baselines_that_are_as_good_are_pointed_out():
    lines = of_accuracies(result(0.6, 0.7, (0.01, 0.2), motion=0.7, low=0.2, majority=0.25))
    assert any("not shown to be better than a class drawn at random" in line for line in lines)
    assert any("Motion energy alone is as good" in line for line in lines)


def test_what_always_answers_the_most_frequent_class_has_to_be_beaten_too():
    lines = of_accuracies(result(0.6, 0.7, (0.01, 0.2), low=0.3))
    assert any("not shown to be better than the most frequent class" in line for line in lines)
    assert not any("not shown" in line for line in of_accuracies(result(0.6, 0.7, (0.01, 0.2), low=0.4)))


def test_of_several_k_the_middle_one_counts():
    several = result(0.6, 0.7, (0.01, 0.2))
    for name, value in {"k = 1": 0.1, "k = 5": 0.2, "k = 20": 0.3}.items():
        for who in ("trained", "untrained", "motion energy"):
            several["scores"][f"{who}, {name}"] = {"top1": value, "top1_interval": (0, 1), "total": 9}
        compared = {"to": f"untrained, {name}", "difference": 0.0, "interval": (-0.1, 0.1)}
        several["comparisons"][f"trained, {name}"] = compared
    del several["comparisons"]["trained"]
    several["task"] = "knn"
    assert "nearest neighbours names 20.0 %" in of_accuracies(several)[0]


def test_clusters_are_said_beside_their_control():
    rng = np.random.default_rng(0)
    loose, tight = rng.normal(0.1, 0.02, 40), rng.normal(0.4, 0.02, 40)
    said = " ".join(of_clusters({"untrained": Tightness(loose, 0.05), "trained": Tightness(tight, 0.05)}, 40))
    assert all(
        f"silhouette {x.mean():.2f} (-1 to 1; 0.05 with columns shuffled" in said for x in (loose, tight)
    )
    assert (
        f"tighter by {tight.mean() - loose.mean():.2f} (change" in said
        and "the interval excludes zero" in said
        and "for nothing" not in said
    )
    same = " ".join(of_clusters({"untrained": Tightness(loose, 0.1), "trained": Tightness(loose, 0.1)}, 40))
    assert "as tight after adaptation as before" in same and "take them for nothing" in same
    assert "not finite" in of_clusters({"trained": Tightness(loose, 0.1)}, 40)[0]


def test_what_comes_next_depends_on_what_was_found():
    assert "vidssl extract" in next_steps("run", "videos", True)
    assert "`vidssl pretrain hsic data.train='my videos'`" in next_steps("run", "my videos", False)
