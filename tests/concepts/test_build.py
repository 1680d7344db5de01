"""Building: against loops in NumPy, closed forms and negative controls; and the cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.concepts.examples import HashTower, example
from tests.distributed_runner import run_on_processes
from vidssl.concepts.build import build_space, cached_space, space_key
from vidssl.concepts.prompts import Concept, ConceptFile, Templates, concepts_from_names
from vidssl.concepts.space import load_space
from vidssl.concepts.templates import category_templates
from vidssl.concepts.vocabulary import load_concepts
from vidssl.errors import VidsslError
from vidssl.models.load import load_text_tower


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def two_templates() -> ConceptFile:
    return example().model_copy(
        update={"templates": Templates(category=("see {name}.", "{} here"), description=("{description}", "clip: {description}"))}
    )  # fmt: skip


def test_rows_are_normalised_averaged_and_normalised_again():
    file, tower = two_templates(), HashTower()
    space = build_space(file, tower)
    for row, concept in enumerate(file.concepts):
        names = [f"see {concept.name}.", f"{concept.name} here"]
        texts = [form.format(text) for text in concept.descriptions for form in ("{}", "clip: {}")]
        for matrix, wanted in ((space.category, names), (space.description, texts)):
            features = [tower.feature(text).double().numpy() for text in wanted]
            expected = unit(np.mean([unit(feature) for feature in features], axis=0))
            np.testing.assert_allclose(matrix[row].numpy(), expected, atol=1e-6)
            other_order = unit(np.mean(features, axis=0))  # the control: averaging first is something else
            assert np.abs(other_order - expected).max() > 1e-3
    assert space.category.dtype == space.description.dtype == torch.float32
    assert space.sentences.shape == (3, 8, 16) and space.counts.tolist() == [8, 8, 8]
    assert [(c.name, c.id) for c in space.info.concepts] == list(zip(file.names, file.ids, strict=True))
    assert space.category.shape == (3, 16) and len(space) == 3


def test_every_text_is_encoded_once_with_progress():
    tower, seen = HashTower(), []
    file = example()
    build_space(file, tower, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert tower.batches == [4, 4, 4, 3] and seen == [(4, 15), (8, 15), (12, 15), (15, 15)]
    repeated = file.model_copy(update={"templates": Templates(category=("{name}", "{c}", "{}"))})
    tower = HashTower()
    build_space(repeated, tower)
    assert tower.batches == [15]


@pytest.mark.parametrize("batch_size", [1, 5, 256])
def test_the_batch_size_changes_nothing(batch_size):
    space = build_space(example(), HashTower(), batch_size=batch_size)
    assert space.sha256 == build_space(example(), HashTower()).sha256


def test_category_templates_can_be_chosen():
    tower = HashTower()
    templates = Templates(category=category_templates("clip_k700"))
    space = build_space(example().model_copy(update={"templates": templates}), tower)
    assert len(space.info.category_templates) == 28
    plain = build_space(example(), tower)
    assert not torch.allclose(space.category, plain.category) and torch.equal(
        space.description, plain.description
    )


def test_long_texts_are_cut_at_a_sentence_and_named():
    texts = (
        "One two three. Four five six seven. Eight nine ten eleven twelve.",
        *(f"Other {n} words." for n in range(3)),
    )
    file = example("juggling", "swimming")
    long = file.concepts[0].model_copy(update={"descriptions": texts})
    file = file.model_copy(update={"concepts": (long, file.concepts[1])})
    tower = HashTower(context_length=22)
    assert build_space(file, tower).info.problems == ()
    short = HashTower(context_length=11)
    space = build_space(file, short)
    ours = [problem for problem in space.info.problems if problem.concept == "juggling"]
    assert (
        len(ours) == 1
        and ours[0].rule == "tokens-cut"
        and "14 tokens, the encoder reads 11" in ours[0].message
    )
    expected = short.feature("One two three. Four five six seven.")
    torch.testing.assert_close(space.sentences[0, 0], expected / expected.norm())


def test_bad_arguments_are_named():
    with pytest.raises(VidsslError, match="whiten 'pca': unknown"):
        build_space(example(), HashTower(), whiten="pca")  # type: ignore[arg-type]
    with pytest.raises(VidsslError, match="merge_threshold 97: must be a cosine"):
        build_space(example(), HashTower(), merge_threshold=97)
    with pytest.raises(VidsslError, match="list: no concept has descriptions"):
        build_space(concepts_from_names(["a"], "list"), HashTower())
    broken = example()
    broken = broken.model_copy(update={"concepts": (broken.concepts[0], broken.concepts[0])})
    with pytest.raises(VidsslError, match=r"example: juggling: id of both .* \(and 1 more\)"):
        build_space(broken, HashTower())


def test_features_without_a_direction_are_refused():
    class Broken(HashTower):
        def feature(self, text: str) -> Tensor:
            return super().feature(text) * (float("nan") if "bow" in text else 1.0)

    with pytest.raises(VidsslError, match=r"raises a bow.* is not finite or zero .1 such"):
        build_space(example(), Broken())


def test_keys_and_hashes_follow_everything():
    base = space_key(example(), HashTower())
    assert base == space_key(example(), HashTower()) == build_space(example(), HashTower()).info.key
    changed = [
        space_key(example("juggling"), HashTower()),
        space_key(example(), HashTower(seed=1)),
        space_key(example(), HashTower(context_length=30)),
        space_key(two_templates(), HashTower()),
        space_key(example(), HashTower(), whiten="zca"),
        space_key(example(), HashTower(), merge_threshold=0.9),
    ]
    assert len({base, *changed}) == 7
    # What does not enter the rows does not enter the key.
    assert space_key(example().model_copy(update={"license": "MIT"}), HashTower()) == base
    hashes = {build_space(example(), HashTower(seed=seed)).sha256 for seed in (0, 0, 1)}
    assert len(hashes) == 2


class TwinTower(HashTower):
    """Gives texts of `twin` nearly the features of the same texts about juggling."""

    def feature(self, text: str) -> Tensor:
        if text == "a video of a person twin.":
            return super().feature("a video of a person juggling.") + 0.01 * super().feature(text)
        if text.startswith("Twin: "):
            return super().feature(text.removeprefix("Twin: ")) + 0.01 * super().feature(text)
        return super().feature(text)


def twins() -> ConceptFile:
    file = example()
    twin = Concept(
        id="twin",
        name="twin",
        aliases=("double",),
        descriptions=tuple(f"Twin: {text}" for text in file.concepts[0].descriptions[:2] + file.concepts[0].descriptions[2:]),
    )  # fmt: skip
    return file.model_copy(update={"concepts": (*file.concepts, twin)})


def test_near_duplicates_are_reported_and_merged_on_request():
    space = build_space(twins(), TwinTower())
    assert len(space) == 4 and space.info.near_duplicate_count == 2
    assert {(p.space, p.first, p.second) for p in space.info.near_duplicates} == {
        ("category", "juggling", "twin"),
        ("description", "juggling", "twin"),
    }
    merged = build_space(twins(), TwinTower(), merge_threshold=0.97)
    assert [concept.id for concept in merged.info.concepts] == ["juggling", "swimming", "archery"]
    assert merged.info.merged == (("twin", "juggling"),) and merged.info.near_duplicate_count == 2
    assert merged.info.concepts[0].aliases == ("twin", "double")
    assert merged.counts.tolist() == [8, 4, 4]
    mean = torch.nn.functional.normalize(space.category[0] + space.category[3], dim=0)
    torch.testing.assert_close(merged.category[0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(merged.category[1:], space.category[1:3])
    assert len(build_space(twins(), TwinTower(), merge_threshold=1.0)) == 4


def test_sentences_are_moved_with_their_space():
    space = build_space(example(), HashTower(), whiten="center")
    plain = build_space(example(), HashTower())
    shift = plain.description.double().mean(dim=0)
    expected = torch.nn.functional.normalize(plain.sentences.double() - shift, dim=-1).float()
    torch.testing.assert_close(space.sentences, expected, atol=1e-6, rtol=0)
    assert space.info.whiten == "center"


def test_padding_stays_zero_under_whitening():
    texts = [f"Text number {n}." for n in range(7)]
    concepts = tuple(
        Concept(id=f"c{n}", name=f"c{n}", descriptions=tuple(texts[n : n + 1 + 3 * (n == 0)]))
        for n in (0, 4, 5, 6)
    )
    space = build_space(example().model_copy(update={"concepts": concepts}), HashTower(), whiten="center")
    assert space.counts.tolist() == [4, 1, 1, 1]
    assert not space.sentences[1:, 1:].any()


def test_the_shipped_vocabulary_makes_a_space(tiny_clip):
    """With a real tokenizer and tower: no text is cut, and every row is a unit vector."""
    import vidssl

    text = vidssl.create_model(f"local-dir:{tiny_clip}").text
    assert text is not None
    file = load_concepts("hmdb51")
    space = build_space(file, text)
    assert space.category.shape == (51, 32) and space.info.problems == ()
    for matrix in (space.category, space.description):
        torch.testing.assert_close(matrix.norm(dim=1), torch.ones(51))
    expected = text.encode([f"a video of a person {file.names[3]}."])
    torch.testing.assert_close(space.category[3], expected[0] / expected.norm(), atol=1e-6, rtol=0)
    assert space.info.encoder == text.fingerprint


def test_a_space_is_built_once(tmp_path):
    first = HashTower()
    space = cached_space(example(), first, folder=tmp_path)
    again = HashTower()
    assert cached_space(example(), again, folder=tmp_path).sha256 == space.sha256
    assert first.batches and not again.batches
    for options in ({"whiten": "center"}, {"merge_threshold": 0.9}):
        tower = HashTower()
        cached_space(example(), tower, folder=tmp_path, **options)
        assert tower.batches
    reworded, tower = two_templates(), HashTower()
    cached_space(reworded, tower, folder=tmp_path)
    assert tower.batches
    other = HashTower(seed=1)
    cached_space(example(), other, folder=tmp_path)
    assert other.batches and len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cache_is_built_anew(tmp_path):
    space = cached_space(example(), HashTower(), folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"nonsense")
    tower = HashTower()
    assert cached_space(example(), tower, folder=tmp_path).sha256 == space.sha256
    assert tower.batches and load_space(file).sha256 == space.sha256


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert len(cached_space(example(), HashTower(), folder=tmp_path / "file")) == 3


def test_the_users_cache_is_the_default():
    tower = HashTower(seed=77)
    cached_space(example(), tower)
    again = HashTower(seed=77)
    cached_space(example(), again)
    assert tower.batches and not again.batches


class LocalTower(HashTower):
    """Differs in the last bits from process to process, as other hardware does."""

    def feature(self, text: str) -> torch.Tensor:
        return (
            super().feature(text) * (1 + 1e-6 * torch.distributed.get_rank())
            + 1e-6 * torch.distributed.get_rank()
        )


class FailingTower(HashTower):
    """Cannot encode on one process."""

    def __init__(self, bad_rank: int) -> None:
        super().__init__()
        self.bad_rank = bad_rank

    def feature(self, text: str) -> torch.Tensor:
        return super().feature(text) * (0.0 if torch.distributed.get_rank() == self.bad_rank else 1.0)


def on_a_process(folder: str, own_disks: bool) -> tuple[str, float, int]:
    tower = LocalTower()
    place = Path(folder) / (str(torch.distributed.get_rank()) if own_disks else "shared")
    space = cached_space(example(), tower, folder=place)
    return space.sha256, float(space.category.sum()), len(tower.batches)


def fails_on_a_process(folder: str, bad_rank: int) -> str:
    try:
        cached_space(
            example(), FailingTower(bad_rank), folder=Path(folder) / str(torch.distributed.get_rank())
        )
    except VidsslError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("own_disks", [False, True])
def test_all_processes_end_with_the_same_numbers(own_disks, tmp_path):
    results = run_on_processes(on_a_process, 2, str(tmp_path), own_disks, time_limit=180)
    assert results[0][:2] == results[1][:2]
    assert [batches for *_, batches in results] == [1, 0]


@pytest.mark.parametrize(("bad_rank", "message"), [(0, "not finite or zero"), (1, "no error")])
def test_a_failure_is_raised_on_all_processes(bad_rank, message, tmp_path):
    """The first process alone encodes, and so fails."""
    for found in run_on_processes(fails_on_a_process, 2, str(tmp_path), bad_rank, time_limit=180):
        assert message in found


def test_build_writes_a_space_or_fills_the_cache():
    tower, seen = HashTower(context_length=40), []
    file = load_concepts("hmdb51")
    space = cached_space(file, tower, whiten="center", progress=lambda *numbers: seen.append(numbers))
    assert seen[-1][0] == seen[-1][1]
    record = space.record()
    assert record["concepts"] == 51 and record["problems"] == [] and record["sha256"] == space.sha256
    assert cached_space(file, tower, whiten="center").sha256 == space.sha256
    joined = load_concepts("k400+ssv2", templates="a video of {name}.")
    assert len(cached_space(joined, HashTower(context_length=40))) == 574
    json.dumps(record)


def test_build_with_a_tower_by_name(tiny_clip):
    tower = load_text_tower(tiny_clip).to("cpu")
    record = cached_space(example(), tower, merge_threshold=0.99).record()
    assert record["dim"] == 32 and record["encoder"] == tower.fingerprint
