"""A folder of factor videos: `000000.mp4` …, `factors.csv` and `factors.json` (see `table`), whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vidssl.data.encode import write_video
from vidssl.files import require_new_folder, whole_folder
from vidssl.synthetic.factors.scenes import factor_clips, sample_table
from vidssl.synthetic.factors.table import FactorTable, write_factors
from vidssl.version import __version__


def write_factor_videos(
    folder: Path | str,
    scene: str = "sprites",
    clips: int = 1000,
    frames: int = 16,
    size: int = 64,
    fps: float = 8.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FactorTable:
    """Draw the factors of `clips` clips and write their videos; a pure function of the arguments, to the byte.

    The videos are H.264, which loses a little; `factor_clips` gives the same clips as they were rendered.

    Args:
        folder: absent or empty. scene: a name in SCENES. frames, size: T, pixels of a side. fps: of the videos.
        seed: of factors and textures.
        progress: called after every clip with how many are done, and how many there are to do.

    Returns:
        The table; paths are relative to the folder.

    Raises:
        VidsslError: for an unknown scene, counts below 1, or a folder that holds something; then nothing is written.
    """
    folder = Path(folder)
    require_new_folder(folder)
    table = sample_table(scene, clips, seed)
    record = {
        "scene": scene,
        "clips": clips,
        "frames": frames,
        "size": size,
        "fps": fps,
        "seed": seed,
        "version": __version__,
    }
    with whole_folder(folder) as partial:
        for number, path in enumerate(table.paths):
            [clip] = factor_clips(scene, table.values[number : number + 1], frames, size, seed, [number])
            write_video(partial / path, clip, fps)
            if progress is not None:
                progress(number + 1, clips)
        write_factors(partial, table, record)
    return table
