"""Building and projecting: against loops in NumPy, closed forms and negative controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.concepts.examples import HashTower, example
from vidssl.concepts.build import build_space, space_key
from vidssl.concepts.geometry import Whitener, merge_groups, near_duplicates
from vidssl.concepts.prompts import Concept, ConceptFile, Templates, concepts_from_names
from vidssl.concepts.space import ConceptSpace
from vidssl.concepts.vocabulary import load_concepts
from vidssl.errors import VidsslError


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
    assert (space.names, space.ids, space.dim, len(space)) == (file.names, file.ids, 16, 3)


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
    space = build_space(example(), tower, templates="clip_k700")
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


def test_cosines_of_both_spaces():
    space = build_space(example(), HashTower())
    z = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    category, description = space.project(7.3 * z)
    for logits, matrix in ((category, space.category), (description, space.description)):
        assert logits.shape == (2, 5, 3) and logits.dtype == torch.float64
        for place in np.ndindex(2, 5):
            for row in range(3):
                expected = torch.cosine_similarity(z[place], matrix[row].double(), dim=0)
                assert logits[*place, row].item() == pytest.approx(expected.item(), abs=1e-7)
    torch.testing.assert_close(space.project(space.category)[0].diagonal(), torch.ones(3))
    assert torch.equal(space(z).category, category / 1.0) or torch.allclose(space(z).category, category)


def ragged_space() -> ConceptSpace:
    """Concepts with 1, 2 and 5 sentences."""
    texts = [f"Text number {n}." for n in range(8)]
    groups = (texts[:1], texts[1:3], texts[3:])
    concepts = tuple(Concept(id=f"c{n}", name=f"c{n}", descriptions=tuple(g)) for n, g in enumerate(groups))
    return build_space(example().model_copy(update={"concepts": concepts}), HashTower())


def test_sentences_can_be_kept_apart():
    space, tower = ragged_space(), HashTower()
    assert space.sentences.shape == (3, 5, 16) and space.counts.tolist() == [1, 2, 5]
    z = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for temperature in (0.01, 0.5):
        mean = space.project(z, "mean_logit").description
        soft = space.project(z, "logmeanexp", temperature).description
        for i in range(4):
            for row, concept in enumerate(space.info.concepts):
                cosines = [
                    float(unit(z[i].numpy()) @ unit(tower.feature(t).double().numpy()))
                    for t in concept.descriptions
                ]
                assert mean[i, row].item() == pytest.approx(np.mean(cosines), abs=1e-6)
                expected = temperature * math.log(np.mean([math.exp(c / temperature) for c in cosines]))
                assert soft[i, row].item() == pytest.approx(expected, abs=1e-6)
    one = space.project(z).description[:, 0]  # a single sentence: all three agree
    for aggregate in ("mean_logit", "logmeanexp"):
        torch.testing.assert_close(space.project(z, aggregate).description[:, 0], one, atol=1e-6, rtol=0)
    # Between the mean (hot) and the maximum (cold).
    hot = space.project(z, "logmeanexp", 1e4).description
    torch.testing.assert_close(hot, space.project(z, "mean_logit").description, atol=1e-3, rtol=0)
    cold = space.project(z, "logmeanexp", 1e-5).description
    highest = torch.stack([(torch.nn.functional.normalize(z, dim=-1) @ space.sentences[k, :n].double().T).amax(-1)
                           for k, n in enumerate(space.counts.tolist())], dim=-1)  # fmt: skip
    torch.testing.assert_close(cold, highest, atol=1e-4, rtol=0)


@pytest.mark.parametrize("aggregate", ["mean_embedding", "mean_logit", "logmeanexp"])
def test_gradients_are_right(aggregate):
    space = ragged_space()
    z = torch.randn(
        2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda x: tuple(space.project(x, aggregate, 0.1)), (z,))


def test_logits_are_float32_under_autocast_and_cold_softmaxes_do_not_overflow():
    space = ragged_space()
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = space.project(z)
        half = space.project(z.bfloat16(), "logmeanexp", 1e-4)
    assert low.category.dtype == half.description.dtype == torch.float32
    assert torch.equal(low.category, space.project(z).category)
    assert torch.isfinite(half.description).all()


def test_a_space_has_no_state_to_train_or_to_save():
    space = build_space(example(), HashTower())
    assert not list(space.parameters()) and not space.state_dict()
    assert {name for name, _ in space.named_buffers()} == {"category", "description", "sentences", "counts"}
    assert space.to(torch.device("meta")).category.device.type == "meta"


def test_bad_arguments_are_named():
    space = build_space(example(), HashTower())
    with pytest.raises(VidsslError, match="features of width 5, but its concepts have 16"):
        space.project(torch.zeros(2, 5))
    with pytest.raises(VidsslError, match="'mean_logits': unknown; did you mean 'mean_logit'"):
        space.project(torch.zeros(2, 16), "mean_logits")
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


def test_another_encoder_is_refused_naming_both():
    space = build_space(example(), HashTower(seed=1))
    space.check_encoder(HashTower(seed=1))
    mine, other = HashTower(seed=1).fingerprint[:12], HashTower(seed=2).fingerprint[:12]
    with pytest.raises(VidsslError, match=f"built with text encoder {mine}, not with {other}"):
        space.check_encoder(HashTower(seed=2))


def test_rows_are_found_by_any_name():
    file = example()
    first = file.concepts[0].model_copy(update={"aliases": ("club throwing", "shared")})
    second = file.concepts[1].model_copy(update={"aliases": ("Shared",)})
    file = file.model_copy(update={"concepts": (first, second, file.concepts[2])})
    space = build_space(file, HashTower())
    assert space.rows_of(["Archery", "club_throwing", "shared", "x", "JUGGLING"]) == [2, 0, None, None, 0]


def test_keys_and_hashes_follow_everything():
    base = space_key(example(), HashTower())
    assert base == space_key(example(), HashTower()) == build_space(example(), HashTower()).info.key
    changed = [
        space_key(example("juggling"), HashTower()),
        space_key(example(), HashTower(seed=1)),
        space_key(example(), HashTower(context_length=30)),
        space_key(example(), HashTower(), templates="action here {}"),
        space_key(example(), HashTower(), whiten="zca"),
        space_key(example(), HashTower(), merge_threshold=0.9),
    ]
    assert len({base, *changed}) == 7
    # What does not enter the rows does not enter the key.
    assert space_key(example().model_copy(update={"license": "MIT"}), HashTower()) == base
    hashes = {build_space(example(), HashTower(seed=seed)).sha256 for seed in (0, 0, 1)}
    assert len(hashes) == 2


# --- near-duplicates, merging, whitening -------------------------------------------------------------------------


def rows(*angles: float) -> Tensor:
    """Unit rows in the plane, at angles in degrees."""
    radians = torch.tensor(angles, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_near_duplicates_are_pairs_above_the_threshold():
    found = near_duplicates(rows(0, 3, 90, 91), ["a", "b", "c", "d"], "category", math.cos(math.radians(4)))
    assert [(pair.first, pair.second) for pair in found] == [("c", "d"), ("a", "b")]
    assert found[1].cosine == pytest.approx(math.cos(math.radians(3)), abs=1e-6)
    assert near_duplicates(rows(0, 3), ["a", "b"], "category", 0.9999) == []


def test_only_pairs_close_in_both_spaces_are_merged():
    near = math.cos(math.radians(5))
    assert merge_groups(rows(0, 1, 90), rows(0, 1, 90), near) == [[0, 1], [2]]
    assert merge_groups(rows(0, 1, 90), rows(0, 60, 90), near) == [
        [0],
        [1],
        [2],
    ]  # names alike, sentences not
    # No chains: 0-4-8 are neighbours, but 0 and 8 are not; the closest pair is joined first.
    assert merge_groups(rows(0, 4, 7), rows(0, 4, 7), near) == [[0], [1, 2]]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 90), min_size=1, max_size=12), st.floats(0.5, 0.9999))
def test_groups_cover_everything_once_and_hold_close_pairs_only(angles, threshold):
    points = rows(*angles)
    groups = merge_groups(points, points, threshold)
    assert sorted(index for group in groups for index in group) == list(range(len(angles)))
    cosines = points @ points.T
    for group in groups:
        assert all(cosines[i, j] > threshold for i in group for j in group if i < j)


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
    assert merged.ids == ("juggling", "swimming", "archery")
    assert merged.info.merged == (("twin", "juggling"),) and merged.info.near_duplicate_count == 2
    assert merged.info.concepts[0].aliases == ("twin", "double")
    assert merged.rows_of(["twin", "double", "archery"]) == [0, 0, 2]
    assert merged.counts.tolist() == [8, 4, 4]
    mean = torch.nn.functional.normalize(space.category[0] + space.category[3], dim=0)
    torch.testing.assert_close(merged.category[0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(merged.category[1:], space.category[1:3])
    assert len(build_space(twins(), TwinTower(), merge_threshold=1.0)) == 4


def test_centring_removes_the_common_direction():
    generator = torch.Generator().manual_seed(0)
    cone = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator) + 4.0, dim=1)
    centred = Whitener(cone, "center")(cone)
    expected = cone.double() - cone.double().mean(dim=0)
    torch.testing.assert_close(centred, expected / expected.norm(dim=1, keepdim=True))
    common = cone.double().mean(dim=0)
    assert (cone.double() @ common).min() > 0.5 and (centred @ common).mean().abs() < 0.1


@pytest.mark.parametrize("count", [40, 5])  # more and fewer rows than dimensions
def test_zca_makes_the_covariance_the_identity_on_the_span(count):
    generator = torch.Generator().manual_seed(1)
    scales = torch.linspace(0.2, 2.0, 8, dtype=torch.float64)
    points = torch.randn(count, 8, generator=generator, dtype=torch.float64) * scales + 3.0
    whitener = Whitener(points, "zca")
    assert whitener.shift is not None and whitener.matrix is not None
    moved = (points - whitener.shift) @ whitener.matrix
    covariance = moved.T @ moved / count
    rank = min(count - 1, 8)
    values = torch.linalg.eigvalsh(covariance)
    torch.testing.assert_close(values[-rank:], torch.ones(rank, dtype=torch.float64))
    torch.testing.assert_close(values[:-rank], torch.zeros(8 - rank, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(whitener.matrix, whitener.matrix.T)  # ZCA, not just any whitening
    torch.testing.assert_close(whitener(points).norm(dim=1), torch.ones(count, dtype=torch.float64))
    if count == 5:  # centred and whitened, K < D points are the corners of a regular simplex
        cosines = whitener(points) @ whitener(points).T
        torch.testing.assert_close(
            cosines[~torch.eye(5, dtype=torch.bool)], torch.full((20,), -0.25).double()
        )


def test_sentences_are_moved_with_their_space():
    space = build_space(example(), HashTower(), whiten="center")
    plain = build_space(example(), HashTower())
    shift = plain.description.double().mean(dim=0)
    expected = torch.nn.functional.normalize(plain.sentences.double() - shift, dim=-1).float()
    torch.testing.assert_close(space.sentences, expected, atol=1e-6, rtol=0)
    assert space.info.whiten == "center"


def test_rows_that_are_all_the_same_cannot_be_whitened():
    with pytest.raises(VidsslError, match="no direction left"):
        Whitener(torch.ones(1, 4), "center")


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
    assert len(space) == 51 and space.dim == 32 and space.info.problems == ()
    for matrix in (space.category, space.description):
        torch.testing.assert_close(matrix.norm(dim=1), torch.ones(51))
    expected = text.encode([f"a video of a person {file.names[3]}."])
    torch.testing.assert_close(space.category[3], expected[0] / expected.norm(), atol=1e-6, rtol=0)
    assert space.info.encoder == text.fingerprint
