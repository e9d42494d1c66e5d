"""The verdict on a trial from its bag alone: ground truth in, :mod:`humanx_description.judge` decides."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import mujoco
import numpy as np
import yaml
from rosbags.highlevel import AnyReader

from humanx_description import robot
from humanx_description.config import from_mapping
from humanx_description.errors import UserError
from humanx_description.judge import TrialRecord, Verdict, judge
from humanx_description.scene import scene
from humanx_description.skills import Skill
from humanx_g1_driver.bag_read import Session, messages, open_bag, read_session

TRUTH_TOPIC = '/humanx/sim/truth'
STATUS_TOPIC = '/humanx/driver_status'
_RUN = 3  # humanx_msgs/DriverStatus
_PER_SAMPLE = ('stamp_ns', 'time', 'since_launch', 'launches', 'qpos', 'qvel', 'partner')
_WORLD = 'world'


@dataclass(frozen=True)
class Truth:
    """The ground truth of one run: T samples of one episode from the moment RUN began, in the world frame."""

    seed: int
    episode: int
    stamp_ns: np.ndarray  # (T,)
    time: np.ndarray  # (T,) s since RUN began
    since_launch: np.ndarray  # (T,) s, -1 before the first launch
    launches: np.ndarray  # (T,)
    qpos: np.ndarray  # (T, 36 + 7 per free object)
    qvel: np.ndarray  # (T, 35 + 6 per free object)
    contacts: tuple[tuple[tuple[str, str], ...], ...]  # per sample
    object_names: tuple[str, ...]
    origin: np.ndarray  # (3,)
    yaw: float
    partner: np.ndarray  # (T, 3)

    def cut(self, keep: np.ndarray) -> 'Truth':
        """Return the samples where ``keep`` (T,) is true."""
        contacts = tuple(pairs for pairs, kept in zip(self.contacts, keep) if kept)
        arrays = {name: getattr(self, name)[keep] for name in _PER_SAMPLE}
        return replace(self, contacts=contacts, **arrays)

    @property
    def sim_rate(self) -> float:
        """Simulated seconds per second of the wall clock."""
        wall = (self.stamp_ns[-1] - self.stamp_ns[0]) * 1e-9
        return float((self.time[-1] - self.time[0]) / wall) if wall > 0 else 0.0


@dataclass(frozen=True)
class JudgedRun:
    """One launch of one run of a bag and what the judge says of it (``launch`` 0: a skill without a launch)."""

    seed: int
    episode: int
    launch: int
    verdict: Verdict
    real_time_factor: float


def skill_of(session: Session, path: Path) -> Skill:
    """Return the skill as it was when the bag was recorded."""
    if not session.skill_yaml:
        raise UserError(f'{path}: does not say which skill it is of; expected a bag recorded by humanx.')
    return from_mapping(Skill, yaml.safe_load(session.skill_yaml), f'{path}: skill')


def judge_bag(path: Path) -> list[JudgedRun]:
    """Return the verdict on every run in the bag, in order; raises :class:`UserError` if there is none to judge."""
    with open_bag(path) as reader:
        skill = skill_of(read_session(reader), path)
        runs = read_runs(reader)
        statuses = [(stamp, status.state, status.reason) for stamp, status in messages(reader, STATUS_TOPIC)]
    if not runs:
        raise UserError(f'{path}: the driver never was in RUN with ground truth recorded; nothing can be judged.')
    judged = []
    for truth in runs:
        end = min(truth.stamp_ns[-1], truth.stamp_ns[0] + int(_asked_seconds(skill, truth) * 1e9))
        left = _left_run(statuses, int(truth.stamp_ns[0]), int(end))
        for launch, part in _launches(skill, truth):
            verdict = judge(skill.success, to_record(skill, part))
            if left:
                verdict = Verdict(False, f'the driver left RUN: {left}', verdict.measures)
            judged.append(JudgedRun(truth.seed, truth.episode, launch, verdict, truth.sim_rate))
    return judged


def _asked_seconds(skill: Skill, truth: Truth) -> float:
    """Return how long (s) the run was to go on: the scenario's duration, which the last ball of several has too."""
    scenario = skill.scenario
    if truth.launches.max() < 2:
        return scenario.duration_s
    last = truth.launches == truth.launches.max()
    return float(truth.time[last & (truth.since_launch <= scenario.duration_s - scenario.delay_s[0])].max())


def _left_run(statuses: list[tuple[int, int, str]], begin_ns: int, end_ns: int) -> str:
    """Return the driver's reason if it left RUN between two times, else ``''``; silence of the driver counts too."""
    within = [(state, reason) for stamp, state, reason in statuses if begin_ns < stamp < end_ns]
    if not within:
        return 'no status of the driver was recorded' if end_ns - begin_ns > 10**9 else ''
    return next((reason for state, reason in within if state != _RUN), '')


def _launches(skill: Skill, truth: Truth) -> list[tuple[int, Truth]]:
    """Return one piece per launch: up to the next one, or the scenario's duration. One ball: the whole run."""
    if truth.launches.max() < 2:
        return [(int(truth.launches.max()), truth.cut(truth.time <= skill.scenario.duration_s))]
    return [(n, truth.cut(truth.launches == n)) for n in range(1, int(truth.launches.max()) + 1)]


def read_runs(reader: AnyReader) -> list[Truth]:
    """Return the ground truth of each run of a bag."""
    runs: list[list] = []
    for _, sample in messages(reader, TRUTH_TOPIC):
        if sample.since_run < 0:
            continue
        last = runs[-1][-1] if runs else None
        if last is None or sample.episode != last.episode or sample.since_run < last.since_run:
            runs.append([])
        runs[-1].append(sample)
    return [_truth(samples) for samples in runs]


def _truth(samples: list) -> Truth:
    first = samples[0]
    return Truth(
        seed=int(first.seed),
        episode=int(first.episode),
        stamp_ns=np.array([s.header.stamp.sec * 10**9 + s.header.stamp.nanosec for s in samples]),
        time=np.array([s.since_run for s in samples]),
        since_launch=np.array([s.since_launch for s in samples]),
        launches=np.array([s.launches for s in samples]),
        qpos=np.array([s.qpos for s in samples]),
        qvel=np.array([s.qvel for s in samples]),
        contacts=tuple(tuple(zip(s.contact_body1, s.contact_body2)) for s in samples),
        object_names=tuple(first.object_names),
        origin=np.array(first.scenario_origin),
        yaw=float(first.scenario_yaw),
        partner=np.array([s.partner for s in samples]),
    )


def to_record(skill: Skill, truth: Truth) -> TrialRecord:
    """Return the judge's view of a run, or of one launch of it: key bodies by forward kinematics, contacts as touch."""
    qpos, qvel, time = truth.qpos, truth.qvel, truth.time
    model = _model(skill)
    if qpos.shape[1] != model.nq or qvel.shape[1] != model.nv:
        raise UserError(f'the ground truth has {qpos.shape[1]} positions; expected {model.nq} for {skill.name}.')
    main = skill.main_object
    object_pos = np.full((len(time), 3), np.nan)
    object_vel = np.full((len(time), 3), np.nan)
    touch_bodies: tuple[str, ...] = ()
    touch = np.zeros((len(time), 0), dtype=bool)
    launch_time = 0.0
    launched = np.zeros(0, dtype=int)
    if main is not None and main.name in truth.object_names:
        index = truth.object_names.index(main.name)
        object_pos = qpos[:, 36 + 7 * index : 39 + 7 * index]
        object_vel = qvel[:, 35 + 6 * index : 38 + 6 * index]
        others = [_touching(pairs, main.name) for pairs in truth.contacts]
        touch_bodies = tuple(sorted(set().union(*others) - {_WORLD}))
        touch = np.array([[body in bodies for body in touch_bodies] for bodies in others], dtype=bool)
        touch = touch.reshape(len(time), len(touch_bodies))
        launched = np.flatnonzero(truth.since_launch >= 0)
        launch_time = float(time[launched[0]] - truth.since_launch[launched[0]]) if launched.size else np.inf
    return TrialRecord(
        time=time,
        root_pos=qpos[:, :3],
        root_quat=qpos[:, 3:7],
        key_body_pos=_key_bodies(model, qpos),
        object_pos=object_pos,
        object_vel=object_vel,
        touch=touch,
        touch_bodies=touch_bodies,
        launch_time=launch_time,
        partner=truth.partner[launched[0]] if launched.size else truth.partner[-1],
        scenario_origin=truth.origin,
        scenario_yaw=truth.yaw,
    )


def _touching(pairs: tuple[tuple[str, str], ...], name: str) -> set[str]:
    return {b for a, b in pairs if a == name} | {a for a, b in pairs if b == name}


@lru_cache(maxsize=4)
def _cached_model(text: str, objects: tuple) -> mujoco.MjModel:
    return scene(objects)


def _model(skill: Skill) -> mujoco.MjModel:
    return _cached_model(repr(skill.objects), skill.objects)


def _key_bodies(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    data = mujoco.MjData(model)
    ids = [model.body(name).id for name in robot.KEY_BODIES]
    out = np.zeros((len(qpos), len(ids), 3))
    for index, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        out[index] = data.xpos[ids]
    return out
