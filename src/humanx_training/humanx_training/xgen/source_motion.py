"""From the sources of a recipe to one robot motion: extract, cut, reverse, put in a row, retarget."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from humanx_description.errors import UserError
from humanx_description.paths import data_dir
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.human_motion import JOINT, JOINTS, HumanMotion, read_npz
from humanx_training.xgen.planting import lift_sliding_feet
from humanx_training.xgen.recipe import Recipe, Source
from humanx_training.xgen.retarget.keypoints import resample_human
from humanx_training.xgen.retarget.pipeline import RetargetConfig, retarget
from humanx_training.xgen.robot_motion import RobotMotion, load_robot_motion

_JOIN_SECONDS = 0.9  # between two pieces
_STEP_HEIGHT = 0.10  # m, of the small steps that bring the feet from one piece to the next


def source_path(source: Source) -> Path:
    """Return the file of a source: as given when absolute or present, else inside the data folder."""
    path = Path(source.file)
    if not path.is_absolute() and not path.exists():
        path = data_dir() / path
    if not path.is_file():
        raise UserError(
            f'{path}: the source motion does not exist; expected a file here or below the data folder '
            '(set HUMANX_DATA to it).'
        )
    return path


def human_motion(recipe: Recipe, fps: float = 50.0) -> HumanMotion:
    """Return all sources as one motion of a person at ``fps``."""
    from humanx_training.xgen.extract.detect import extract  # imports the video models

    pieces: list[HumanMotion] = []
    notes: list[str] = []
    for source in recipe.sources:
        path = source_path(source)
        motion = extract(path)
        notes += [f'{path.name}: {note}' for note in motion.provenance.get('notes', [])]
        end = motion.duration if source.end is None else source.end
        if end > motion.duration + 0.05 or source.start >= motion.duration:
            raise UserError(
                f'{path}: lasts {motion.duration:.2f} s; expected the source interval {source.start} to {end} s '
                f'inside it.'
            )
        motion = motion.cut(round(source.start * motion.fps), round(end * motion.fps) + 1)
        motion = resample_human(motion, fps)[0]
        if source.reverse:
            motion = _reversed(motion)
        if source.back:
            motion = _stacked([motion, _reversed(motion).cut(1, motion.num_frames)])
        if source.hold > 0:
            last = motion.num_frames - 1
            motion = _take(motion, np.r_[np.arange(motion.num_frames), [last] * round(source.hold * fps)])
        pieces.append(motion)
    motion = pieces[0]
    for piece in pieces[1:]:
        motion = _joined(motion, piece, round(_JOIN_SECONDS * fps))
    provenance = {**motion.provenance, 'notes': list(dict.fromkeys(notes))}
    return dataclasses.replace(motion, fps=motion.fps / recipe.time_scale, provenance=provenance)


def robot_motion(recipe: Recipe) -> RobotMotion:
    """Return the retargeted motion at the recipe's frame rate; a robot motion as the only source is taken as it is."""
    first = source_path(recipe.sources[0])
    if first.suffix == '.npz' and len(recipe.sources) == 1:
        names = set(read_npz(first, 'a motion'))
        if 'format' in names and 'foot_contact' in names:
            return load_robot_motion(first).resample(recipe.fps)
        if {'object_pos_w', 'joint_pos', 'body_names'} <= names:
            from humanx_training.xgen.formats import grounded_motion, read_g1_npz

            return grounded_motion(read_g1_npz(first), recipe).resample(recipe.fps)
    config = RetargetConfig(stance_before=recipe.stance, stance_after=recipe.stance)
    return lift_sliding_feet(retarget(human_motion(recipe, 50.0), config).motion).resample(recipe.fps)


def _take(motion: HumanMotion, index: np.ndarray) -> HumanMotion:
    captured = motion.captured
    if captured is not None:
        captured = dataclasses.replace(
            captured, pos=captured.pos[index], quat=captured.quat[index], contact=captured.contact[index]
        )
    return dataclasses.replace(
        motion, pos=motion.pos[index], quat=motion.quat[index], confidence=motion.confidence[index], captured=captured
    )


def _reversed(motion: HumanMotion) -> HumanMotion:
    return _take(motion, np.arange(motion.num_frames)[::-1])


def _stacked(parts: list[HumanMotion]) -> HumanMotion:
    captured = parts[0].captured
    if any(p.captured is None for p in parts):
        captured = None
    if captured is not None:
        captured = dataclasses.replace(
            captured,
            **{n: np.concatenate([getattr(p.captured, n) for p in parts]) for n in ('pos', 'quat', 'contact')},
        )
    return dataclasses.replace(
        parts[0],
        captured=captured,
        **{n: np.concatenate([getattr(p, n) for p in parts]) for n in ('pos', 'quat', 'confidence')},
    )


def _joined(first: HumanMotion, second: HumanMotion, gap: int) -> HumanMotion:
    """Put ``second`` where ``first`` ends (same heading, same place) with ``gap`` blended frames between them."""
    turn = _heading(first.quat[-1, 0]) @ _heading(second.quat[0, 0]).T
    pos = second.pos @ turn.T
    shift = first.pos[-1, 0] - pos[0, 0]
    shift[2] = 0.0
    pos = pos + shift
    quat = rot.mat_to_quat(turn @ rot.quat_to_mat(second.quat))
    second = dataclasses.replace(second, pos=pos, quat=quat, captured=None)
    first = dataclasses.replace(first, captured=None)
    # The feet go one after the other, each lifted where it moves; the body goes all the time.
    s = np.tile((np.arange(1, gap + 1) / (gap + 1))[:, None, None], (1, len(JOINTS), 1))
    lift = np.zeros_like(s)
    for side, begin in (('left', 0.05), ('right', 0.5)):
        legs = [JOINT[f'{side}_{n}'] for n in ('knee', 'ankle', 'foot')]
        own = np.clip((s[:, legs] - begin) / 0.45, 0.0, 1.0)
        way = float(np.linalg.norm(pos[0, legs[1]] - first.pos[-1, legs[1]]))
        lift[:, legs] = min(1.0, way / 0.05) * _STEP_HEIGHT * np.sin(np.pi * own) ** 2
        s[:, legs] = own
    s = s * s * (3 - 2 * s)
    sign = np.sign(np.sum(first.quat[-1] * quat[0], axis=-1, keepdims=True))
    blend = (1 - s) * first.quat[-1] + s * quat[0] * np.where(sign == 0, 1.0, sign)
    middle = dataclasses.replace(
        first,
        pos=(1 - s) * first.pos[-1] + s * pos[0] + lift * np.array([0.0, 0.0, 1.0]),
        quat=blend / np.linalg.norm(blend, axis=-1, keepdims=True),
        confidence=np.repeat(np.minimum(first.confidence[-1:], second.confidence[:1]), gap, axis=0),
    )
    return _stacked([first, middle, second])


def _heading(quat: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of a quaternion's yaw."""
    x = rot.quat_to_mat(quat)[:, 0]
    angle = np.arctan2(x[1], x[0])
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
