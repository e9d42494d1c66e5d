"""One trial's objects: where they wait, when they are set going, and again if the partner keeps playing."""

import mujoco
import numpy as np

from humanx_description.scenario import TrialStart, sample, to_world
from humanx_description.skills import Skill

# A returned ball counts as gone once it is this far (m) from the robot, or this long (s) after its launch.
_GONE_DISTANCE = 2.5
_GONE_TIME = 6.0


class Episode:
    """Holds the objects until the skill runs, then sets the main object going as the scenario draws it.

    Before RUN every object rests where the nominal scenario puts it, seen from the robot's place. When RUN begins, the
    draw is put into the frame of the robot as it stands then, and the main object rests there until the delay is over.
    ``balls`` times the partner sets it going (a new draw each time, from the same seed, in the frame of the robot as it
    stands then); 1 is a judged single trial.
    """

    def __init__(self, model: mujoco.MjModel, skill: Skill, *, balls: int = 1) -> None:
        self.skill = skill
        self._balls = balls
        self._free = [o for o in skill.objects if not o.fixed]
        self.object_names = [o.name for o in self._free]
        self._qpos = [int(model.jnt_qposadr[model.joint(f'{o.name}_joint').id]) for o in self._free]
        self._qvel = [int(model.jnt_dofadr[model.joint(f'{o.name}_joint').id]) for o in self._free]
        main = skill.main_object
        self._main = self.object_names.index(main.name) if main and main.name in self.object_names else None
        self._radius = main.bounding_radius() if main else 0.0
        self._rest = [np.array([*o.pos, *o.quat]) for o in self._free]
        self.live = True
        self.reset(0, False, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))

    def reset(self, seed: int, generalise: bool, root_pos_w: np.ndarray, root_quat_w: np.ndarray) -> None:
        """Start over: draw the trial of ``seed`` and let the objects wait before the robot at this place."""
        self.seed = seed
        self.generalise = generalise
        self._rng = np.random.default_rng(seed)
        self.launches = 0
        self.run_steps = -1
        self.launch_steps = -1
        self._touched = False
        self.origin = np.zeros(3)
        self.yaw = 0.0
        self._draw(root_pos_w, root_quat_w, nominal=True)

    def begin(self, root_pos_w: np.ndarray, root_quat_w: np.ndarray) -> None:
        """RUN begins now, with the robot here."""
        self.run_steps = 0
        self.origin = np.array([root_pos_w[0], root_pos_w[1], 0.0])
        w, x, y, z = root_quat_w
        self.yaw = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
        self._rng = np.random.default_rng(self.seed)
        self._draw(np.array(root_pos_w), np.array(root_quat_w), nominal=False)

    def _draw(self, root_pos_w: np.ndarray, root_quat_w: np.ndarray, *, nominal: bool) -> None:
        rng: np.random.Generator | int = 0 if nominal else self._rng
        drawn = sample(
            self.skill.scenario, rng, generalise=self.generalise and not nominal, radius=max(self._radius, 1e-6)
        )
        self.start: TrialStart = to_world(drawn, root_pos_w, root_quat_w)
        self._delay = self.start.delay
        self.live = self._main is None

    def before_step(self, data: mujoco.MjData, dt: float, touched: bool) -> None:
        """Hold or launch the objects; call before every step. ``touched``: the robot has touched the main object."""
        if self.run_steps >= 0:
            self.run_steps += 1
        if self._main is None:
            return
        if not self.live and self.run_steps >= 0 and self.run_steps * dt >= self._delay:
            self._launch(data)
        elif not self.live:
            self._place(data, self._main, self.start.pos, self.start.quat)
        else:
            self.launch_steps += 1
            self._touched |= touched
            if self.launches < self._balls and self._gone(data, dt):
                # The partner aims at where the robot stands by now.
                self._draw(data.qpos[:3].copy(), data.qpos[3:7].copy(), nominal=False)
                self._delay = self.run_steps * dt + self.start.delay
                self._touched = False
        if self.run_steps < 0:
            for index, rest in enumerate(self._rest):
                if index != self._main:
                    self._place(data, index, rest[:3], rest[3:])

    def _launch(self, data: mujoco.MjData) -> None:
        assert self._main is not None
        self._place(data, self._main, self.start.pos, self.start.quat)
        at = self._qvel[self._main]
        data.qvel[at : at + 3] = self.start.lin_vel
        # MuJoCo keeps a free body's angular velocity in the body's own frame.
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.start.quat)
        data.qvel[at + 3 : at + 6] = rotation.reshape(3, 3).T @ self.start.ang_vel
        self.live = True
        self.launches += 1
        self.launch_steps = 0

    def _gone(self, data: mujoco.MjData, dt: float) -> bool:
        assert self._main is not None
        at = self._qpos[self._main]
        away = np.hypot(*(data.qpos[at : at + 2] - data.qpos[:2]))
        return (self._touched and away > _GONE_DISTANCE) or self.launch_steps * dt > _GONE_TIME

    def _place(self, data: mujoco.MjData, index: int, pos: np.ndarray, quat: np.ndarray) -> None:
        at = self._qpos[index]
        data.qpos[at : at + 3] = pos
        data.qpos[at + 3 : at + 7] = quat
        at = self._qvel[index]
        data.qvel[at : at + 6] = 0.0
        data.qacc_warmstart[at : at + 6] = 0.0
