"""Which extractor a file needs, from its name and content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_training.xgen.extract.ballplay import from_tensor
from humanx_training.xgen.extract.bvh import extract_bvh
from humanx_training.xgen.extract.deepmimic import extract_deepmimic
from humanx_training.xgen.extract.gvhmr import from_result
from humanx_training.xgen.extract.smpl import extract_smpl
from humanx_training.xgen.extract.torch_file import load_torch
from humanx_training.xgen.human_motion import MAX_FPS, MIN_FPS, HumanMotion, load_human_motion, read_npz

SUFFIXES = (
    '.npz (SMPL, SMPL-X), .pt (GVHMR, BallPlay), .bvh, .txt (DeepMimic) or a video (.mp4, .mov, .avi, .mkv, .webm)'
)
MAX_DISTANCE = 200.0  # m
VIDEO_SUFFIXES = ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.gif')


@dataclass(frozen=True)
class ExtractOptions:
    """What a source may need to be told."""

    fps: float | None = None  # where the file has no frame rate
    unit: str | None = None  # of a BVH
    model_dir: Path | None = None  # folder with licensed body models
    start: float = 0.0  # s, cut
    stop: float | None = None  # s


def extract(path: Path, options: ExtractOptions = ExtractOptions()) -> HumanMotion:
    """Read a person's motion from any of the supported sources."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: does not exist; expected {SUFFIXES}.')
    if path.stat().st_size == 0:
        raise UserError(f'{path}: is empty; expected {SUFFIXES}.')
    if options.fps is not None and not MIN_FPS <= options.fps <= MAX_FPS:
        raise UserError(
            f'{path}: --fps is {options.fps:g}; expected {MIN_FPS:g} to {MAX_FPS:g} frames per second.'
        )
    motion = _extract(path, options)
    _in_metres(path, motion)
    return cut(path, motion, options)


def _in_metres(path: Path, motion: HumanMotion) -> None:
    """Refuse a person of an impossible size, or far away: their file is not in metres."""
    bones = (('left_hip', 'left_knee'), ('left_knee', 'left_ankle'))
    leg = sum(float(np.median(np.linalg.norm(motion.joint(a) - motion.joint(b), axis=1))) for a, b in bones)
    if not 0.3 <= leg <= 2.0:
        raise UserError(f'{path}: a leg measures {leg:.3g} m from hip to ankle; expected 0.3 to 2 m (metres).')
    far = float(np.abs(motion.pos).max())
    if far > MAX_DISTANCE:
        raise UserError(
            f'{path}: the person is up to {far:.0f} m from the origin; expected metres within {MAX_DISTANCE:g} m.'
        )


def _extract(path: Path, options: ExtractOptions) -> HumanMotion:
    suffix = path.suffix.lower()
    if suffix == '.npz':
        if str(read_npz(path, 'a motion').get('format')) == 'humanx_human_motion':
            return load_human_motion(path)
        return extract_smpl(path, options.fps, options.model_dir)
    if suffix == '.bvh':
        return extract_bvh(path, options.unit)
    if suffix in ('.txt', '.json'):
        return extract_deepmimic(path)
    if suffix in ('.pt', '.pth'):
        content = load_torch(path)
        if isinstance(content, dict):
            return from_result(path, content, options.fps, options.model_dir)
        return from_tensor(path, content, options.fps)
    if suffix in VIDEO_SUFFIXES:
        from humanx_training.xgen.extract.video import extract_video

        return extract_video(path)
    raise UserError(f'{path}: has the ending {path.suffix!r}; expected {SUFFIXES}.')


def cut(path: Path, motion: HumanMotion, options: ExtractOptions) -> HumanMotion:
    """Return the asked-for seconds of a motion."""
    stop = motion.duration if options.stop is None else options.stop
    if not 0 <= options.start < stop <= motion.duration + 0.5 / motion.fps:
        raise UserError(
            f'{path}: the cut {options.start:g} to {stop:g} s is outside the clip; '
            f'expected times within 0 to {motion.duration:.2f} s.'
        )
    first, last = round(options.start * motion.fps), round(stop * motion.fps) + 1
    if first == 0 and last >= motion.num_frames:
        return motion
    if last - first < 2:
        raise UserError(f'{path}: the cut {options.start:g} to {stop:g} s holds under 2 frames; expected more.')
    return motion.cut(first, last)
