"""A bank of feasible kicks over the ball's path, each with its feedback, built entry by entry and resumable.

Entries differ only in ``ball_y``; since each comes from the same deterministic construction, neighbours agree and
everything between them is interpolated.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import mujoco
import numpy as np

from humanx_description.errors import UserError
from humanx_training.xmimic.mpc.feasible import Feasible, make_feasible
from humanx_training.xmimic.mpc.inverse import BodySolver
from humanx_training.xmimic.mpc.linearise import linearise
from humanx_training.xmimic.mpc.lqr import LqrWeights, feedback
from humanx_training.xmimic.mpc.reference import AnchoredClip, KickStyle, kick_reference

_LOG = logging.getLogger(__name__)
FORMAT = 1
# Following the reference closely, against feeling it softly afterwards.
SHAPE_WEIGHTS = LqrWeights(action=0.5, rate=0.0, joint=0.15, joint_vel=3.0)
# Stiffer than the default, and quick to stop the pelvis: links heavier or lighter than the model's push the robot over
# while it comes back onto both feet (upright after 93 instead of 89 of 100 randomised kicks).
TRACK_WEIGHTS = LqrWeights(action=1.0, rate=2.0, root_vel=0.25)
GOOD = 0.001  # rad, mean joint deviation from the reference: nearer, and neighbours agree
DESIGN_DELAY = 2  # physics steps (10 ms) between a command and its effect, for which the feedback is designed


@dataclass(frozen=True)
class Bank:
    """K kicks of T frames: ``ball_y`` (K,) ascending, ``qpos`` (K, T, 36), ``qvel`` (K, T, 35), ``target`` (K, T, 29),
    ``gain`` (K, T, 29, 99) float32; ``contact`` the frame of ball contact, ``contact_x`` (m) the ball's place there."""

    ball_y: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    gain: np.ndarray
    contact: int
    contact_x: float
    dt: float

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return self.qpos.shape[1]


def build_entry(
    model: mujoco.MjModel, clip: AnchoredClip, style: KickStyle, ball_y: float, neighbour: Feasible | None = None
) -> tuple[Feasible, dict[str, np.ndarray]]:
    """Return the feasible kick of one ball path and the arrays of its bank entry.

    The search starts from the reference, and where that fails from the motion of a ``neighbour``.
    """
    reference = kick_reference(BodySolver(model), clip, style, ball_y)
    motion = make_feasible(model, reference, SHAPE_WEIGHTS, passes=10, good=GOOD)
    if not motion.complete and neighbour is not None:
        motion = make_feasible(model, reference, SHAPE_WEIGHTS, passes=10, start=neighbour, good=GOOD)
    # A command works one control step later, so the feed-forward is one step ahead.
    command = np.concatenate([motion.target[1:], motion.target[-1:]])
    local = linearise(model, motion.qpos, motion.qvel, motion.target)
    law = feedback(local, motion.qpos, motion.qvel, command, TRACK_WEIGHTS, delay=DESIGN_DELAY)
    arrays = {'qpos': law.qpos, 'qvel': law.qvel, 'target': law.target, 'gain': law.gain}
    return motion, arrays


def build_bank(
    model: mujoco.MjModel, clip: AnchoredClip, style: KickStyle, ball_y: np.ndarray, folder: Path
) -> Bank:
    """Build (or complete) the bank in ``folder``, one ``.npz`` per ball path, and return it.

    Entries already there with the same style are kept. Entries whose motion could not be made feasible are reported
    and left out. Raises :class:`UserError` when fewer than two remain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps({'format': FORMAT, 'style': asdict(style)}, sort_keys=True)
    found: dict[float, Feasible] = {}
    # From the usual path outward, so that a neighbour is always there to start from.
    for y in sorted((float(y) for y in ball_y), key=lambda y: abs(y - style.usual_y)):
        path = folder / f'kick_{y:+.3f}.npz'
        if path.exists():
            with np.load(path) as data:
                if str(data['style']) == wanted and (bool(data['complete']) or not found):
                    if bool(data['complete']):
                        # Stored commands are one step ahead of the targets at work.
                        command = data['target']
                        worked = np.concatenate([command[:1], command[:-1]])
                        found[y] = Feasible(data['qpos'], data['qvel'], worked, True)
                    continue
        began = time.monotonic()
        neighbour = found[min(found, key=lambda other: abs(other - y))] if found else None
        motion, arrays = build_entry(model, clip, style, y, neighbour)
        if motion.complete:
            found[y] = motion
        last = motion.deviation
        _LOG.warning(
            'kick at %+.2f m: %s, %.1f mm root and %.2f mrad mean joint deviation, %.0f s', y,
            'feasible' if motion.complete else 'NOT feasible', 1e3 * last['root'], 1e3 * last['joint'],
            time.monotonic() - began,
        )  # fmt: skip
        np.savez(path, style=wanted, complete=motion.complete, ball_y=y, **arrays)
    return load_bank(folder, style)


def load_bank(folder: Path, style: KickStyle) -> Bank:
    """Read the feasible entries of ``folder``."""
    wanted = json.dumps({'format': FORMAT, 'style': asdict(style)}, sort_keys=True)
    entries = []
    for path in sorted(folder.glob('kick_*.npz')):
        with np.load(path) as data:
            if str(data['style']) == wanted and bool(data['complete']):
                entries.append({key: data[key] for key in ('ball_y', 'qpos', 'qvel', 'target', 'gain')})
    if len(entries) < 2:
        raise UserError(f'{folder}: holds {len(entries)} feasible kicks; expected at least 2.')
    entries.sort(key=lambda entry: float(entry['ball_y']))
    stack = {key: np.stack([entry[key] for entry in entries]) for key in entries[0]}
    dt = 0.01
    return Bank(
        stack['ball_y'].astype(float), stack['qpos'], stack['qvel'], stack['target'], stack['gain'],
        round(style.before / dt), style.contact_x, dt,
    )  # fmt: skip
