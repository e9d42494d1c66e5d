"""What a policy reaches: SR, GSR, E_o, E_h with confidence intervals, and why trials fail.

SR: share of trials that succeed from the skill's nominal start. GSR: the same over its whole generalisation range.
E_o, E_h: mean distance (m) of the object and of the key bodies from the original clip over the nominal trials, in the
scenario frame, aligned at the moment the object is set free (section IX of the paper).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.scene import scene
from humanx_description.skills import Skill
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xmimic.batch_policy import BatchPolicy
from humanx_training.xmimic.closed_loop import CONTROL_PERIOD, IDEAL, Conditions, Trial, run_trials
from humanx_training.xmimic.statistics import bootstrap_mean, wilson

_MOVING = 0.05  # m/s


@dataclass
class Rate:
    """Successes of trials with their 95 % Wilson interval and the reasons of the failures."""

    successes: int
    trials: int
    failures: dict[str, int]
    interval: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.interval = wilson(self.successes, self.trials)

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / max(self.trials, 1)


@dataclass
class Report:
    """The outcome of an evaluation; errors in m, ``None`` without a clip."""

    skill: str
    trials: int
    seed: int
    sr: Rate
    gsr: Rate | None
    object_error: tuple[float, float, float] | None  # mean, 95 % interval (bootstrap)
    body_error: tuple[float, float, float] | None
    conditions: Conditions
    physics_dt: float
    measures: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        out = dataclasses.asdict(self)
        for name in ('sr', 'gsr'):
            rate = getattr(self, name)
            if rate is not None:
                out[name]['rate'] = rate.rate
        return json.loads(json.dumps(out))

    def text(self) -> str:
        """Return the report as a few lines for people."""
        rate_hz = 1 / self.physics_dt
        lines = [f'skill {self.skill}, {self.trials} trials from seed {self.seed}, physics at {rate_hz:.0f} Hz']
        for name, rate, what in (('SR', self.sr, 'nominal start'), ('GSR', self.gsr, 'whole range')):
            if rate is None:
                continue
            low, high = rate.interval
            lines.append(
                f'{name:4} {100 * rate.rate:5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]  '
                f'{rate.successes} of {rate.trials}, {what}'
            )
            for reason, count in sorted(rate.failures.items(), key=lambda item: -item[1]):
                lines.append(f'       {count:4d} failed: {reason}')
        for name, error in (('E_o', self.object_error), ('E_h', self.body_error)):
            if error is not None:
                lines.append(f'{name:4} {error[0]:.3f} m  [{error[1]:.3f}, {error[2]:.3f}]')
        for name, value in self.measures.items():
            lines.append(f'{name}: {value[0]:.3f}  [{value[1]:.3f}, {value[2]:.3f}]')
        return '\n'.join(lines)


def evaluate(
    skill: Skill,
    policy: BatchPolicy,
    *,
    trials: int = 200,
    seed: int = 0,
    conditions: Conditions = IDEAL,
    clip: InteractionClip | None = None,
    generalise: bool = True,
    timestep: float = 0.001,
    threads: int | None = None,
) -> Report:
    """Run ``trials`` nominal and ``trials`` generalisation trials in closed loop and sum them up."""
    seeds = list(range(seed, seed + trials))
    nominal = run_trials(
        skill, policy, seeds, generalise=False, conditions=conditions, timestep=timestep, threads=threads
    )
    ranged = None
    if generalise:
        ranged = run_trials(
            skill, policy, seeds, generalise=True, conditions=conditions, timestep=timestep, threads=threads
        )
    errors = [tracking_errors(trial, clip) for trial in nominal] if clip is not None else None
    return Report(
        skill=skill.name,
        trials=trials,
        seed=seed,
        sr=summarise(nominal),
        gsr=summarise(ranged) if ranged is not None else None,
        object_error=bootstrap_mean(np.array([e[0] for e in errors])) if errors and clip and clip.has_object else None,
        body_error=bootstrap_mean(np.array([e[1] for e in errors])) if errors else None,
        conditions=conditions,
        physics_dt=timestep,
        measures=_measures(ranged or nominal),
    )


def summarise(trials: list[Trial]) -> Rate:
    """Return the success rate and the failures by reason (numbers in the reasons dropped, so that they group)."""
    reasons = Counter(_group(t.verdict.reason) for t in trials if not t.verdict.success)
    return Rate(sum(t.verdict.success for t in trials), len(trials), dict(reasons))


def _group(reason: str) -> str:
    return re.sub(r'-?\d+(\.\d+)?', '#', reason)


def _measures(trials: list[Trial]) -> dict[str, tuple[float, float, float]]:
    names = [n for n in ('speed', 'angle_deg', 'drift', 'height_error', 'distance', 'held') if any(
        n in t.verdict.measures for t in trials)]
    return {n: bootstrap_mean(np.array([t.verdict.measures.get(n, np.nan) for t in trials])) for n in names}


def tracking_errors(trial: Trial, clip: InteractionClip) -> tuple[float, float]:
    """Return mean object and key-body distance (m) between a trial and a clip, in their scenario frames.

    Both are compared from the moment the object is set free to the end of the shorter one.
    """
    reference = clip.resampled(1.0 / CONTROL_PERIOD)
    start = launch_frame(reference)
    record = trial.record
    first = int(np.searchsorted(record.time, record.launch_time)) if clip.has_object else 0
    count = min(reference.num_frames - start, len(record.time) - first)
    yaw = float(rotation.yaw(reference.root_quat[0]))
    origin = reference.root_pos[0] * [1.0, 1.0, 0.0]
    bodies = _to_frame(clip_key_bodies(reference)[start : start + count], origin, yaw)
    actual = _to_frame(record.key_body_pos[first : first + count], record.scenario_origin, record.scenario_yaw)
    body_error = float(np.linalg.norm(bodies - actual, axis=-1).mean())
    if not clip.has_object:
        return np.nan, body_error
    wanted = _to_frame(reference.object_pos[start : start + count], origin, yaw)
    seen = _to_frame(record.object_pos[first : first + count], record.scenario_origin, record.scenario_yaw)
    return float(np.linalg.norm(wanted - seen, axis=-1).mean()), body_error


def launch_frame(clip: InteractionClip) -> int:
    """Return the first frame in which the object moves (0 when it moves from the start, or never, or is absent)."""
    if not clip.has_object:
        return 0
    moving = np.linalg.norm(np.diff(clip.object_pos, axis=0), axis=1) * clip.fps > _MOVING
    return int(np.argmax(moving)) if moving.any() else 0


def clip_key_bodies(clip: InteractionClip) -> np.ndarray:
    """Return the positions (T, 12, 3) of the key bodies by forward kinematics, m in the world."""
    model = scene(())
    data = mujoco.MjData(model)
    ids = [model.body(name).id for name in robot.KEY_BODIES]
    out = np.zeros((clip.num_frames, len(ids), 3))
    robot_qpos = clip.qpos()[:, :36]
    for frame in range(clip.num_frames):
        data.qpos[:] = robot_qpos[frame]
        mujoco.mj_kinematics(model, data)
        out[frame] = data.xpos[ids]
    return out


def _to_frame(points: np.ndarray, origin: np.ndarray, yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return (points - origin) @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def write_report(report: Report, path: Path, extra: dict[str, Any] | None = None) -> None:
    """Write the report as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.write_text(json.dumps({**report.to_dict(), **(extra or {})}, indent=2) + '\n')
    temporary.replace(path)
