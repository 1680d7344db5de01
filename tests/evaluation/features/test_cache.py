"""Features once: what is kept is what would be computed, on any number of processes, and nothing else is ever read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch import nn

from tests.distributed_runner import run_on_processes
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.features import blocks, means
from vidssl.evaluation.features.means import FeatureSet, extract_features
from vidssl.evaluation.features.room import Room
from vidssl.evaluation.features.shelf import Shelf
from vidssl.evaluation.features.sources import CLIP, FRAMES, Kind, encoder_digest, encoder_source
from vidssl.evaluation.features.tokens import kept_tokens
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.models.encoder import ClipFeatures, VideoEncoder

PLAIN = EvalOptions(clips=2, frames=4, seconds=0.5, size=32, workers=0, batch_size=2, cache=False)


class Strips(VideoEncoder):
    """A small encoder that needs no library: patches of 8 pixels, two layers, one after the other."""

    def __init__(self) -> None:
        super().__init__(
            embed_dim=6, width=5, mean=(0.5,) * 3, std=(0.2,) * 3, image_size=32, spec={"name": "strips"}
        )
        torch.manual_seed(0)
        self.first, self.second, self.out = nn.Linear(192, 5), nn.Linear(5, 5), nn.Linear(5, 6)

    def maps(self, clips):
        pieces = rearrange(clips, "b c t (h p) (w q) -> b t h w (c p q)", p=8, q=8)
        first = self.first(pieces).tanh()
        yield first
        yield self.second(first).tanh()

    def features(self, clips, patches, keys=None):
        *_, last = self.maps(clips)
        frames = self.out(last.mean((2, 3)))
        return ClipFeatures(frames.mean(1), frames, last if patches else None)


def subject_of(options: EvalOptions = PLAIN) -> Subject:
    return Subject(Path("encoder"), Strips().eval(), None, options, torch.device("cpu"))


def seven_of(sprites: Path) -> VideoIndex:
    return VideoIndex.read(sprites / "val").subset(range(7))


def features_of(sprites: Path, options: EvalOptions, **chosen) -> FeatureSet:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that it is compared with
    try:
        return extract_features(
            subject_of(options), seven_of(sprites), motion=True, description="test", **chosen
        )
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def computed(sprites):
    return features_of(sprites, PLAIN)


@pytest.fixture
def cached(tmp_path):
    return replace(PLAIN, cache=tmp_path / "cache")


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """The videos that are encoded, in turn."""
    ids: list[int] = []
    plain = blocks.encode_blocks

    def noted(*given, **options):
        for block in plain(*given, **options):
            ids.extend(block.ids)
            yield block

    monkeypatch.setattr(means, "encode_blocks", noted)
    return ids


def same(first: FeatureSet, second: FeatureSet) -> bool:
    """To the last bit."""
    return (
        first.features.keys() == second.features.keys()
        and all(torch.equal(rows, second.features[name]) for name, rows in first.features.items())
        and all(torch.equal(ok, second.ok[name]) for name, ok in first.ok.items())
        and first.fewer_clips == second.fewer_clips
    )


def test_a_second_look_decodes_nothing_and_sees_the_same(sprites, computed, cached, encoded):
    first = features_of(sprites, cached)
    assert sorted(encoded) == list(range(7)) and first.read == 0
    second = features_of(sprites, cached)
    assert len(encoded) == 7 and second.read == 7
    assert same(first, computed) and same(second, computed)


@pytest.mark.parametrize("processes", [2, 3])
def test_the_parts_of_any_number_of_processes_are_those_of_one(
    sprites, computed, cached, monkeypatch, processes
):
    """As below, one process after the other in this one."""
    parts = []
    monkeypatch.setattr(means, "_in_order", lambda found, *_: parts.extend(found))
    for rank in range(processes):
        for name, value in (("rank", rank), ("world_size", processes)):
            monkeypatch.setattr(blocks.distributed, name, lambda value=value: value)
        features_of(sprites, cached)
    monkeypatch.undo()
    assert [len(part.ids) for part in parts] == {2: [4, 3], 3: [3, 2, 2]}[processes]
    assert same(means._in_order(parts, seven_of(sprites), "test"), computed)
    assert features_of(sprites, cached).read == 7


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_number_of_processes_changes_no_bit(sprites, computed, cached, processes):
    """Seven videos in blocks of two: 4 and 3 of one process and the other, or 3, 2 and 2."""
    found = run_on_processes(features_of, processes, sprites, cached)
    assert all(same(one, computed) for one in found)
    assert features_of(sprites, cached).read == 7  # all of them kept what the first now reads


def test_what_was_killed_goes_on_where_it_was(sprites, computed, cached, encoded, monkeypatch):
    monkeypatch.setattr("vidssl.evaluation.features.shelf.ROWS", 2)
    keep, calls = means._keep, []

    def killed(*given):
        calls.append(1)
        if len(calls) == 10:  # in the midst of the third block
            raise KeyboardInterrupt
        keep(*given)

    monkeypatch.setattr(means, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        features_of(sprites, cached)
    assert encoded == [0, 1, 2, 3, 4, 5]
    encoded.clear()
    monkeypatch.setattr(means, "_keep", keep)
    found = features_of(sprites, cached)
    assert encoded == [4, 5, 6] and found.read == 4
    assert same(found, computed)


def test_videos_are_known_by_their_content(sprites, cached, encoded, tmp_path):
    """Under other names and in another order nothing is computed; a file that was changed is."""
    features_of(sprites, cached)
    encoded.clear()
    index = seven_of(sprites)
    for number in range(7):
        (tmp_path / "other" / str(number)).mkdir(parents=True)
        shutil.copy(index.path(6 - number), tmp_path / "other" / str(number) / "x.mp4")
    (tmp_path / "other" / "3" / "x.mp4").write_bytes(index.path(0).read_bytes() + b"more")
    other = VideoIndex.read(tmp_path / "other")
    found = extract_features(subject_of(cached), other, description="test")
    assert encoded == [3] and found.read == 6
    alone = extract_features(subject_of(), other, description="test")
    assert same(found, alone)


@pytest.mark.parametrize(
    "change", [{"clips": 3}, {"frames": 3}, {"seconds": 0.4}, {"resize": "crop"}, {"batch_size": 4}, {"backend": "pyav"}]
)  # fmt: skip
def test_features_of_other_views_are_not_taken(sprites, cached, change):
    features_of(sprites, cached)
    assert features_of(sprites, replace(cached, **change)).read == 0


def test_features_of_other_weights_are_not_taken(sprites, cached):
    features_of(sprites, cached)
    subject = subject_of(cached)
    before = encoder_digest(subject.encoder)
    with torch.no_grad():
        next(subject.encoder.parameters()).view(-1)[0] += 1e-3
    assert encoder_digest(subject.encoder) != before
    assert extract_features(subject, seven_of(sprites), description="test").read == 0


def test_a_video_that_fails_is_never_kept(sprites, cached, encoded, tmp_path):
    shutil.copytree(sprites / "val", tmp_path / "data")
    index = VideoIndex.read(tmp_path / "data")
    index.path(2).write_bytes(b"no video")
    for read in (0, 8, 8):
        found = extract_features(subject_of(cached), index, description="test")
        assert found.read == read
        assert [failure.video_id for failure in found.failures] == [2]
        assert found.ok["trained"].tolist() == [row != 2 for row in range(9)]
    assert encoded == [*range(9), 2, 2]


def test_features_that_are_not_finite_are_never_kept(sprites, cached, monkeypatch):
    plain = blocks.encode_blocks

    def broken(*given, **options):
        for block in plain(*given, **options):
            if 1 in block.ids:
                harmed = block.rows["trained"][CLIP].clone()
                harmed[block.ids.index(1), 1, 3] = torch.nan
                block.rows["trained"][CLIP] = harmed
            yield block

    monkeypatch.setattr(means, "encode_blocks", broken)
    for read in (0, 6):
        found = features_of(sprites, cached)
        assert found.read == read
        assert [(x.video_id, x.reason) for x in found.failures] == [(1, "features are not finite (trained)")]


@pytest.mark.parametrize("harm", [lambda x: x[:-5], lambda x: x[:50], lambda x: x[:-9] + b"\x01" + x[-8:]])
def test_what_is_damaged_is_computed_anew(sprites, cached, computed, harm):
    features_of(sprites, cached)
    for file in Path(cached.cache).glob("*/*.safetensors"):
        file.write_bytes(harm(file.read_bytes()))
    assert same(features_of(sprites, cached), computed)
    assert features_of(sprites, cached).read == 7


def test_tokens_that_are_damaged_are_computed_anew_too(sprites, cached):
    """They are mapped, not read as a whole, so that one wrong bit would go unnoticed later."""
    subject, index, kinds = subject_of(cached), seven_of(sprites), (CLIP, FRAMES)
    extract_features(subject, index, kinds=kinds, description="test")
    source = encoder_source(subject.encoder, "trained", kinds)

    def tokens():
        return kept_tokens(subject, index, torch.ones(7).bool(), source, FRAMES)[range(7)][0]

    before = tokens()
    for file in Path(cached.cache).glob("*/*.safetensors"):
        data = file.read_bytes()
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert extract_features(subject, index, kinds=kinds, description="test").read == 0
    assert torch.equal(tokens(), before)


def test_there_is_never_more_than_the_limit_and_the_longest_unused_makes_way(sprites, cached):
    small = replace(cached, cache_gigabytes=30e-6)
    features_of(sprites, small)
    files = list(Path(cached.cache).glob("*/*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    assert 0 < size <= 30_000
    other = replace(small, frames=3)
    features_of(sprites, other)
    assert sum(file.stat().st_size for file in Path(cached.cache).glob("*/*.safetensors")) <= 30_000
    assert features_of(sprites, other).read == 7
    assert features_of(sprites, small).read == 0


def test_clips_and_crops_are_kept_apart_and_means_derived(sprites, cached):
    options = replace(cached, crops=3, resize="crop")
    whole = features_of(sprites, options)
    apart = features_of(sprites, options, apart=True)
    assert apart.read == 7 and apart.features["trained"].shape[:2] == apart.shown.shape == (7, 6)
    torch.testing.assert_close(apart.features["trained"].mean(1), whole.features["trained"])
    subject = subject_of(options)
    alone = replace(subject, options=replace(options, batch_size=1, cache=False))
    one = extract_features(alone, seven_of(sprites).subset([3]), apart=True, description="test")
    torch.testing.assert_close(one.features["trained"][0], apart.features["trained"][3], atol=1e-5, rtol=0)


def test_frames_come_along_and_patches_of_any_layer_when_asked_for(sprites, cached):
    subject, index = subject_of(cached), seven_of(sprites)
    patches = Kind("patches", 0)
    extract_features(subject, index, description="test")
    assert extract_features(subject, index, kinds=(FRAMES,), description="test").read == 7
    assert extract_features(subject, index, kinds=(CLIP, patches), description="test").read == 0
    assert extract_features(subject, index, kinds=(CLIP, patches), description="test").read == 7
    source = encoder_source(subject.encoder, "trained", (CLIP, patches))
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        found = source.run(clips)
        assert torch.equal(found[patches], next(subject.encoder.maps(clips)))
        assert torch.equal(found[CLIP], subject.encoder(clips).clip)
    with pytest.raises(VidsslError, match="layer=2: must be from 0 to 1"):
        encoder_source(subject.encoder, "trained", (Kind("patches", 2),))


def test_rows_are_read_from_the_disk_one_at_a_time(tmp_path):
    room = Room(tmp_path, 1.0)
    rows, new = torch.randn(5, 2, 3), torch.ones(5, 2).bool()
    for start in (0, 3):
        shelf = Shelf(room, {"of": "these"})
        shelf.keep(list("abcde")[start : start + 3], rows[start : start + 3], new[start : start + 3])
        shelf.flush()
    kept = Shelf(room, {"of": "these"}).open(["d", "a", "e"])
    assert len(kept) == 3 and torch.equal(kept[[2, 0]][0], rows[[4, 3]])
    with pytest.raises(VidsslError, match="lacks the features of 1 of 2 videos"):
        Shelf(room, {"of": "these"}).open(["a", "x"])
    assert Shelf(room, {"of": "others"}).has(["a"]) == [False]


def test_a_folder_that_is_named_has_to_be_writable_and_the_default_need_not(sprites, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(VidsslError, match="features cannot be kept there"):
        features_of(sprites, replace(PLAIN, cache=tmp_path / "file" / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert features_of(sprites, replace(PLAIN, cache=True)).read == 0
    with pytest.raises(VidsslError, match="cache_gigabytes=0: must be above 0"):
        features_of(sprites, replace(PLAIN, cache=True, cache_gigabytes=0))
