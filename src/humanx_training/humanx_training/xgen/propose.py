"""Suggests contact phases from a motion alone: strikes from speed peaks of hands and feet, holds from palm distance."""

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
_HOLD_RANGE = (0.15, 0.45)  # m between the palms
_HOLD_SPREAD = 0.05  # m, that distance may vary while something is held
_HOLD_SECONDS = 0.3


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


def signals(motion: RobotMotion, stage: Stage | None = None) -> Signals:
    """Compute the signals of the person's part of a motion."""
    stage = stage or Stage()
    part = slice(motion.clip_start, motion.clip_stop)
    qpos = motion.qpos()[part]
    base = rotation.linear_rate(qpos[:, :3], motion.fps)
    paths = [stage.anchor(qpos, name)[0] for name in STRIKERS]
    speed = [np.linalg.norm(rotation.linear_rate(p, motion.fps) - base, axis=1) for p in paths]
    apart = np.linalg.norm(paths[2] - paths[3], axis=1)
    return Signals(np.arange(len(qpos)) / motion.fps, np.stack(speed, axis=1), apart)


def propose(seen: Signals) -> list[Proposal]:
    """Return proposals, the likeliest first. Strikes: a limb's speed peaks; holds: palms at a steady distance."""
    out = []
    top = float(seen.speed.max())
    for column, name in enumerate(STRIKERS):
        speed = seen.speed[:, column]
        for peak in _peaks(speed, max(_PEAK_SPEED, _PEAK_SHARE * top)):
            inside = np.flatnonzero(speed < 0.7 * speed[peak])
            start = int(inside[inside < peak].max(initial=0))
            end = int(inside[inside > peak].min(initial=len(speed) - 1))
            out.append(
                Proposal('strike', name, float(seen.time[start]), float(seen.time[end]), float(speed[peak] / top))
            )
    for start, end in _steady(seen.palm_distance, seen.time):
        length = float(seen.time[end] - seen.time[start])
        spread = float(np.ptp(seen.palm_distance[start : end + 1]))
        score = min(1.0, length / 1.0) * (1.0 - spread / (2 * _HOLD_SPREAD))
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


def _steady(distance: np.ndarray, time: np.ndarray) -> list[tuple[int, int]]:
    """Return maximal intervals in which the palms stay at one distance that an object could have."""
    out, start = [], 0
    while start < len(distance):
        if not _HOLD_RANGE[0] <= distance[start] <= _HOLD_RANGE[1]:
            start += 1
            continue
        low = high = distance[start]
        end = start
        while end + 1 < len(distance):
            value = distance[end + 1]
            if not _HOLD_RANGE[0] <= value <= _HOLD_RANGE[1] or max(high, value) - min(low, value) > _HOLD_SPREAD:
                break
            low, high, end = min(low, value), max(high, value), end + 1
        if time[end] - time[start] >= _HOLD_SECONDS:
            out.append((start, end))
        start = end + 1
    return out


def plot(seen: Signals, proposals: list[Proposal], path: Path) -> None:
    """Write a PNG of the signals with the proposed intervals, to confirm or correct them by eye."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    if Path(path).suffix != '.png':
        raise UserError(f'{path}: ends in {Path(path).suffix!r}; expected .png.')
    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 5), layout='constrained')
    for column, name in enumerate(STRIKERS):
        top.plot(seen.time, seen.speed[:, column], label=name)
    top.set_ylabel('speed against pelvis, m/s')
    bottom.plot(seen.time, seen.palm_distance, color='k')
    bottom.set_ylabel('between palms, m')
    bottom.set_xlabel('time in the motion, s')
    for number, proposal in enumerate(proposals):
        axis = top if proposal.kind == 'strike' else bottom
        axis.axvspan(proposal.start, proposal.end, color=f'C{number % 10}', alpha=0.2)
        axis.annotate(
            f'{number}: {proposal.kind} {proposal.anchor}', (proposal.start, axis.get_ylim()[1]), fontsize=7, va='top'
        )
    top.legend(fontsize=7)
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
