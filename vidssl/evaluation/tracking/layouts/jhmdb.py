"""JHMDB: 15 joints of one person, in ``joint_positions.mat``, and frames in a folder of images."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from einops import rearrange

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts.images import image_files, image_frames
from vidssl.evaluation.tracking.layouts.tables import Rows
from vidssl.evaluation.tracking.sequence import Sequence

JOINTS = "joint_positions.mat"


def read_joints(file: Path) -> Rows:
    """`pos_img` of a MATLAB file, (2, J, T) counted from 1 -> (T, J, 2) counted from 0.

    Raises:
        VidsslError: a file that is not of this kind. (It is read by scipy, which runs nothing that is in it.)
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        points = np.asarray(loadmat(file, variable_names=["pos_img"])["pos_img"], dtype=np.float64)
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, zlib.error, MatReadError) as error:  # fmt: skip
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise VidsslError(f"{file}: pos_img cannot be read ({reason})") from error
    if points.ndim != 3 or points.shape[0] != 2 or not np.isfinite(points).all():
        raise VidsslError(f"{file}: pos_img of shape {points.shape}; expected (2, joints, frames), finite")
    return rearrange(points, "xy j t -> t j xy") - 1


def joint_files(root: Path) -> dict[str, tuple[Path, Path]]:
    """``<action>/<video>`` -> frames and joints, where a root has ``<joints>/<action>/<video>/joint_positions.mat`` and, in another
    folder such as ``Rename_Images``, ``<action>/<video>/*.png``."""
    found = {}
    folders = [child for child in sorted(root.iterdir()) if child.is_dir()]
    for file in sorted(root.glob(f"*/*/*/{JOINTS}")):
        video = file.parent.relative_to(root)
        inner = Path(*video.parts[1:])
        frames = [tree / inner for tree in folders if tree.name != video.parts[0]]
        place = next((folder for folder in frames if image_files(folder)), file.parent)
        found[inner.as_posix()] = place, file
    return found


def read_jhmdb(name: str, frames: Path, joints: Path) -> Sequence:
    """One video of JHMDB.

    Raises:
        VidsslError: no frames, or joints of another number of frames.
    """
    files = image_files(frames)
    if not files:
        raise VidsslError(f"{name}: joints, but no folder of images {name}")
    return Sequence(name, image_frames(files), keypoints={1: read_joints(joints)})
