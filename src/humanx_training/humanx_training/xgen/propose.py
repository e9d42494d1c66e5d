"""Suggests contact phases from a motion alone: strikes from speed peaks of hands and feet, holds from the palms.

A strike is a peak of a hand's or foot's speed against the pelvis; a foot that is put down elsewhere made a step, which
counts half. A hold is a stretch in which the palms face each other in front of the body at a steady distance. What one
hand alone carries (a dribble, a spin move) does not show in the motion and is not suggested.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from humanx_description.errors import UserError
from humanx_training import rotation
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.stage import Stage

STRIKERS = ('left_ankle_roll_link', 'right_ankle_roll_link', 'left_palm', 'right_palm')
_PEAK_SHARE = 0.6  # of the fastest limb's highest speed
_PEAK_SPEED = 1.0  # m/s: slower than this is no strike
_STRIKE_SECONDS = 0.045  # a peak narrower than this is a jerk of the capture, not of a limb
_STEP_LENGTH = 0.15  # m: a foot that comes down further off, and takes the pelvis along, made a step
_STEP_WORTH = 0.5
_THROW_WORTH = 0.6  # of a palm's peak beside a hold: that is a catch or a throw, which the hold stands for
_THROW_SECONDS = 0.4
_HOLD_RANGE = (0.10, 0.65)  # m between the palms
_HOLD_SPREAD = 0.08  # m, that distance may vary while something is held
_HOLD_SECONDS = 0.3
_HOLD_AHEAD = 0.10  # m, the palms' middle before the pelvis: hands that hang are beside it
_HOLD_FACING = 0.3  # cosine between each palm's direction and the line to the other palm


@dataclass(frozen=True)
class Proposal:
    """One suggested contact, in seconds of the motion (stance excluded); ``score`` 0 to 1 orders them."""

    kind: str
    anchor: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Signals:
    """What proposals are read from, per frame of the motion."""

    time: np.ndarray  # (T,) s, 0 at the start of the person's motion
    speed: np.ndarray  # (T, 4) m/s of STRIKERS, relative to the pelvis' own velocity
    palm_distance: np.ndarray  # (T,) m
    stepping: np.ndarray  # (T, 2) bool: the left, the right foot is on its way to another place
    palms_ahead: np.ndarray  # (T,) m, the palms' middle before the pelvis
    palms_facing: np.ndarray  # (T,) cosine, of the palm that looks less towards the other


def signals(motion: RobotMotion, stage: Stage | None = None) -> Signals:
    """Compute the signals of the person's part of a motion."""
    stage = stage or Stage()
    part = slice(motion.clip_start, motion.clip_stop)
    qpos = motion.qpos()[part]
    base = rotation.linear_rate(qpos[:, :3], motion.fps)
    poses = [stage.anchor(qpos, name) for name in STRIKERS]
    paths = [pos for pos, _ in poses]
    speed = [np.linalg.norm(rotation.linear_rate(p, motion.fps) - base, axis=1) for p in paths]
    line = paths[3] - paths[2]
    apart = np.linalg.norm(line, axis=1)
    line = line / np.maximum(apart, 1e-6)[:, None]
    # The left palm looks to -y of its frame, the right one to +y.
    y = np.broadcast_to([0.0, 1.0, 0.0], line.shape)
    facing = np.minimum(
        (-rotation.rotate(poses[2][1], y) * line).sum(axis=1), (-rotation.rotate(poses[3][1], y) * line).sum(axis=1)
    )
    facing_to = rotation.from_yaw(rotation.yaw(qpos[:, 3:7]))
    heading = rotation.rotate(facing_to, np.broadcast_to([1.0, 0.0, 0.0], line.shape))
    ahead = ((0.5 * (paths[2] + paths[3]) - qpos[:, :3]) * heading).sum(axis=1)
    stepping = _stepping(motion.foot_contact[part], np.stack(paths[:2], axis=1), qpos[:, :3])
    return Signals(np.arange(len(qpos)) / motion.fps, np.stack(speed, axis=1), apart, stepping, ahead, facing)


def _stepping(planted: np.ndarray, feet: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    """Return (T, 2): which feet are in the air (``planted`` (T, 2) is false) on the way to another place."""
    out = np.zeros_like(planted, dtype=bool)
    for foot in range(2):
        edges = np.flatnonzero(np.diff(np.r_[False, ~planted[:, foot].astype(bool), False].astype(int)))
        for start, end in zip(edges[::2], edges[1::2]):
            first, last = max(start - 1, 0), min(end, len(planted) - 1)
            moved = feet[last, foot, :2] - feet[first, foot, :2]
            carried = pelvis[last, :2] - pelvis[first, :2]
            length = float(np.linalg.norm(moved))
            out[start:end, foot] = length > _STEP_LENGTH and carried @ moved > 0.25 * length**2
    return out


def propose(seen: Signals) -> list[Proposal]:
    """Return proposals, the likeliest first."""
    out = []
    worth = np.ones_like(seen.speed)
    worth[:, :2][seen.stepping] = _STEP_WORTH
    for start, end in _steady(seen):
        beside = (seen.time > seen.time[start] - _THROW_SECONDS) & (seen.time < seen.time[end] + _THROW_SECONDS)
        worth[beside, 2:] = _THROW_WORTH
    valued = worth * seen.speed
    top = float(valued.max())
    for column, name in enumerate(STRIKERS):
        speed = seen.speed[:, column]
        for peak in _peaks(valued[:, column], max(_PEAK_SPEED, _PEAK_SHARE * top)):
            inside = np.flatnonzero(speed < 0.7 * speed[peak])
            start = int(inside[inside < peak].max(initial=0))
            end = int(inside[inside > peak].min(initial=len(speed) - 1))
            if seen.time[end] - seen.time[start] < _STRIKE_SECONDS:
                continue
            score = float(valued[peak, column] / top)
            out.append(Proposal('strike', name, float(seen.time[start]), float(seen.time[end]), score))
    for start, end in _steady(seen):
        length = float(seen.time[end] - seen.time[start])
        spread = float(np.std(seen.palm_distance[start : end + 1]))
        score = min(1.0, length / 1.0) * (1.0 - spread / _HOLD_SPREAD)
        out.append(Proposal('hold', 'palms', float(seen.time[start]), float(seen.time[end]), score))
    return sorted(out, key=lambda p: -p.score)


def _peaks(speed: np.ndarray, least: float) -> list[int]:
    inner = np.flatnonzero((speed[1:-1] >= speed[:-2]) & (speed[1:-1] > speed[2:]) & (speed[1:-1] >= least)) + 1
    kept: list[int] = []
    for peak in sorted(inner, key=lambda i: -speed[i]):
        # A swing has one strike: a second peak counts only when the limb slowed down in between.
        if all(speed[min(peak, k) : max(peak, k) + 1].min() < 0.5 * speed[peak] for k in kept):
            kept.append(int(peak))
    return sorted(kept)


def _steady(seen: Signals) -> list[tuple[int, int]]:
    """Return intervals, longest first and apart from each other, in which the palms could hold an object."""
    distance, time = seen.palm_distance, seen.time
    able = (distance >= _HOLD_RANGE[0]) & (distance <= _HOLD_RANGE[1])
    able &= (seen.palms_ahead > _HOLD_AHEAD) & (seen.palms_facing > _HOLD_FACING)
    candidates = []
    for start in np.flatnonzero(able):
        low = high = distance[start]
        end = start
        while end + 1 < len(distance) and able[end + 1]:
            low, high = min(low, distance[end + 1]), max(high, distance[end + 1])
            if high - low > _HOLD_SPREAD:
                break
            end += 1
        if time[end] - time[start] >= _HOLD_SECONDS:
            candidates.append((int(start), int(end)))
    out: list[tuple[int, int]] = []
    for start, end in sorted(candidates, key=lambda c: c[0] - c[1]):
        if all(end < a or start > b for a, b in out):
            out.append((start, end))
    return out


def plot(seen: Signals, proposals: list[Proposal], path: Path) -> None:
    """Write a PNG of the signals with the proposed intervals, to confirm or correct them by eye."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    if Path(path).suffix != '.png':
        raise UserError(f'{path}: ends in {Path(path).suffix!r}; expected .png.')
    figure, axes = pyplot.subplots(
        3, 1, sharex=True, figsize=(10, 6.5), height_ratios=(3, 2, 1.4), layout='constrained'
    )
    speeds, palms, bars = axes
    for column, name in enumerate(STRIKERS):
        (line,) = speeds.plot(seen.time, seen.speed[:, column], label=name)
        if column < 2 and seen.stepping[:, column].any():
            stepped = np.where(seen.stepping[:, column], seen.speed[:, column], np.nan)
            speeds.plot(seen.time, stepped, color=line.get_color(), linewidth=4, alpha=0.3, label=f'{name} (a step)')
    speeds.set_ylabel('speed against pelvis, m/s')
    speeds.legend(fontsize=7, loc='upper right')
    palms.plot(seen.time, seen.palm_distance, color='k', label='between the palms')
    palms.plot(seen.time, seen.palms_ahead, color='tab:purple', linewidth=0.8, label="palms' middle before the pelvis")
    palms.set_ylabel('m')
    palms.legend(fontsize=7, loc='upper right')
    for number, proposal in enumerate(proposals):
        color = f'C{number % 10}'
        axis = speeds if proposal.kind == 'strike' else palms
        axis.axvspan(proposal.start, proposal.end, color=color, alpha=0.2)
        bars.barh(number, proposal.end - proposal.start, left=proposal.start, color=color)
        text = f' {number}: {proposal.kind} {proposal.anchor} {proposal.start:.2f} to {proposal.end:.2f} s '
        if proposal.end - proposal.start > 0.4 * seen.time[-1]:
            at, side = 0.5 * (proposal.start + proposal.end), 'center'
        elif proposal.start > 0.6 * seen.time[-1]:
            at, side = proposal.start, 'right'
        else:
            at, side = proposal.end, 'left'
        bars.text(at, number, text, fontsize=7, va='center', ha=side)
    bars.set_ylim(len(proposals) - 0.5, -0.5)
    bars.set_yticks([])
    bars.set_xlabel('time in the motion, s')
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def as_yaml(proposals: list[Proposal]) -> str:
    """Return proposals as the ``contacts`` list of a skill file."""
    rows = []
    for proposal in proposals:
        row = asdict(proposal)
        row.pop('score')
        rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    return yaml.safe_dump({'contacts': rows}, sort_keys=False)
