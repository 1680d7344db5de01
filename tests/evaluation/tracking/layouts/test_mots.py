from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.tracking.drawn import write_frames
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts import find_sequences
from vidssl.evaluation.tracking.layouts.images import mask_list, read_mask
from vidssl.evaluation.tracking.layouts.mots import decode_runs, mots_masks


def runs_of(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> str:
    """COCO's compressed run lengths, written out from their description."""
    runs, value, length = [], False, 0
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            runs.append(length)
            value, length = bool(pixel), 0
        length += 1
    runs.append(length)
    text = ""
    for i, run in enumerate(runs):
        number = run - (runs[i - 2] if i > 2 else 0)
        more = True
        while more:
            group, number = number & 31, number >> 5
            more = number != (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * more)
    return text


def blob(seed: int, height: int = 23, width: int = 41) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    return ((y - rng.uniform(0, height)) ** 2 + (x - rng.uniform(0, width)) ** 2 < rng.uniform(5, 300)) ^ (
        rng.random((height, width)) < 0.02
    )


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_read_as_they_are_written(seed: int) -> None:
    mask = blob(seed)
    assert np.array_equal(decode_runs(runs_of(mask), *mask.shape), mask)


def test_runs_are_cocos() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for seed in range(20):
        mask = blob(seed, 60, 33)
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert text == runs_of(mask)
        assert np.array_equal(decode_runs(text, 60, 33), mask)


@pytest.mark.parametrize("text", ["", "~~~~", "11", "P" * 50])
def test_damaged_runs_are_named(text: str) -> None:
    with pytest.raises(VidsslError, match="MOTS: runs"):
        decode_runs(text, 23, 41)


def test_a_mots_text_file_gives_masks(tmp_path: Path) -> None:
    folder = tmp_path / "MOTS20-02"
    write_frames(folder / "img1", 3, "{:06d}.jpg", start=1)
    (folder / "gt").mkdir()
    first, second = blob(0, 64, 80), np.zeros((64, 80), dtype=bool)
    second[50:, 70:] = True
    lines = [
        f"1 2001 2 64 80 {runs_of(first)}",
        f"1 2002 2 64 80 {runs_of(second)}",
        f"3 10000 10 64 80 {runs_of(first)}",
    ]
    (folder / "gt" / "gt.txt").write_text("\n".join(lines))
    masks = find_sequences(tmp_path)[0].read().masks
    assert masks is not None
    whole, gone, ignored = masks[0], masks[1], masks[2]
    assert whole is not None and gone is not None and ignored is not None
    expected = np.where(second, 2002, np.where(first, 2001, 0))
    assert np.array_equal(whole, expected) and not gone.any() and not ignored.any()


def test_masks_of_another_size_than_the_frames_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1 1 2 999999999 999999999 x\n")
    with pytest.raises(
        VidsslError, match="line 1: a mask of 999999999 x 999999999 pixels, the frames have 5 x 4"
    ):
        mots_masks(tmp_path / "gt.txt", 3, (4, 5))


def test_mots_pngs_keep_their_numbers_but_the_ignored_region(tmp_path: Path) -> None:
    write_frames(tmp_path / "images" / "0002", 2, "{:06d}.png")
    (tmp_path / "instances" / "0002").mkdir(parents=True)
    labels = np.zeros((64, 80), dtype=np.uint16)
    labels[:9], labels[9:20], labels[20:30] = 1000, 2003, 10_000
    for t in range(2):
        Image.fromarray(labels).save(tmp_path / "instances" / "0002" / f"{t:06d}.png")
    (sequence,) = [found.read() for found in find_sequences(tmp_path)]
    assert sequence.masks is not None and not sequence.masks_introduce
    mask = sequence.masks[1]
    assert mask is not None and np.array_equal(np.unique(mask), [0, 1000, 2003])


def test_white_is_one_object_and_beside_others_not_counted(tmp_path: Path) -> None:
    alone, beside = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    alone[1:3] = 255
    beside[1], beside[2] = 7, 255
    colour = np.zeros((4, 5, 3), np.uint8)
    colour[1:3] = 255
    expected = {"alone": [0, 1], "beside": [0, 7], "colour": [0, 1]}
    for name, image in {"alone": alone, "beside": beside, "colour": colour}.items():
        file = tmp_path / f"{name}.png"
        Image.fromarray(image).save(file)
        mask = mask_list("s", [name], [file])[0]
        assert mask is not None and np.unique(mask).tolist() == expected[name]


def test_masks_of_other_names_are_taken_in_order_or_refused(tmp_path: Path) -> None:
    files = []
    for name in ("m_a", "m_b"):
        files.append(tmp_path / f"{name}.png")
        Image.fromarray(np.full((2, 2), ord(name[-1]), np.uint8)).save(files[-1])
    masks = mask_list("s", ["00000", "00001"], files)
    assert [int(mask[0, 0]) for t in range(2) if (mask := masks[t]) is not None] == [97, 98]
    with pytest.raises(VidsslError, match=r"s: 3 frames and 2 masks, and m_a\.png has the name of no frame"):
        mask_list("s", ["00000", "00001", "00002"], files)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(VidsslError, match=r"bad\.png: no readable image"):
        read_mask(tmp_path / "bad.png")
