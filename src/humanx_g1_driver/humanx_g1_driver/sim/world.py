"""The simulated world without clocks and wires: one call is one millisecond."""

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.scene import apply_drag, default_qpos, drag_table, scene
from humanx_description.skills import Skill
from humanx_g1_driver.sim.episode import Episode
from humanx_g1_driver.sim.gantry import Gantry
from humanx_g1_driver.sim.motors import Motors
from humanx_g1_driver.sim.options import WorldConfig
from humanx_g1_driver.sim.protocol import GantryState
from humanx_g1_driver.sim.sensors import Sensors

TIMESTEP = 0.001  # s


class World:
    """The robot, its gantry, its motors and sensors, and the objects of a skill, stepped at 1 kHz.

    The same seed and the same commands give the same trajectory, bit by bit.
    """

    def __init__(
        self, skill: Skill, config: WorldConfig | None = None, *, seed: int = 0, generalise: bool = False
    ) -> None:
        self.skill = skill
        self.config = config or WorldConfig()
        self.model = scene(skill.objects, timestep=TIMESTEP)
        self.data = mujoco.MjData(self.model)
        self.motors = Motors(
            self.model,
            delay_steps=self.config.actuation_delay_ms,
            timeout_steps=self.config.command_timeout_ms,
            damping=self.config.silent_damping,
        )
        self._rng = np.random.default_rng(seed)
        self.sensors = Sensors(self.model, self.config.noise, self._rng)
        self.gantry = Gantry(self.model, robot.DEFAULT_ROOT_HEIGHT)
        self.episode = Episode(self.model, skill, balls=self.config.balls)
        self._drag = drag_table(self.model, skill.objects)
        self.body_names = [self.model.body(i).name for i in range(self.model.nbody)]
        self._geom_body = np.array(self.model.geom_bodyid)
        pelvis = self.model.body('pelvis').id
        self._root_geoms = set(np.flatnonzero(self.model.body_rootid[self._geom_body] == pelvis).tolist())
        main = skill.main_object
        self._main_geoms = {
            g for g in range(self.model.ngeom) if main and self.body_names[self._geom_body[g]] == main.name
        }
        self._contacts: set[int] = set()
        self._touched = False
        self.steps = 0
        self.episodes = -1
        self.reset(seed, generalise)

    def reset(self, seed: int, generalise: bool = False) -> None:
        """Hang the robot on its gantry in the default pose, forget commands and draw the trial of ``seed``."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = default_qpos(self.skill.objects)
        self._rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.motors.reset()
        if self.config.gantry:
            self.gantry.hold()
            self.data.qpos[2] += self.gantry.lift
        else:
            self.gantry.drop()
        self.episode.reset(seed, generalise, self.data.qpos[:3], self.data.qpos[3:7])
        self.episode.before_step(self.data, TIMESTEP, False)
        self._contacts.clear()
        self._touched = False
        self.episodes += 1
        mujoco.mj_forward(self.model, self.data)
        self.sensors.read(self.data)

    def begin_run(self) -> None:
        """The skill runs from now on: the scenario's clock starts. A second run is the trial of the next seed."""
        place = self.data.qpos[:3].copy(), self.data.qpos[3:7].copy()
        if self.episode.run_steps >= 0:
            self.episode.reset(self.episode.seed + 1, self.episode.generalise, *place)
            self._touched = False
        self.episode.begin(*place)

    def step(self) -> None:
        """Advance by one millisecond and take one sample of the sensors."""
        data, launches = self.data, self.episode.launches
        self.episode.before_step(data, TIMESTEP, self._touched)
        if self.episode.launches != launches:
            self._touched = False  # what touched the object before has nothing to do with its new start
        self.motors.apply(data)
        self.gantry.apply(data.qpos, data.qvel, data.qfrc_applied)
        if self._drag:
            apply_drag(self.model, data, self._drag)
        mujoco.mj_step(self.model, data)
        self.sensors.read(data)
        self.steps += 1
        if data.ncon:
            # Two int32 of a contact read as one int64: a set of Python ints, cheap enough for every millisecond.
            self._contacts.update(data.contact.geom.view(np.int64).ravel().tolist())
            if self._main_geoms and not self._touched:
                self._touched = self._robot_touches()
        if not np.isfinite(data.qpos[2]):
            raise FloatingPointError('the simulation diverged')

    def _robot_touches(self) -> bool:
        for first, second in self.data.contact.geom:
            if (first in self._main_geoms and second in self._root_geoms) or (
                second in self._main_geoms and first in self._root_geoms
            ):
                return True
        return False

    def take_contacts(self) -> list[tuple[str, str]]:
        """Return the pairs of bodies that touched since the last call, sorted; the floor is ``world``."""
        codes = np.array(sorted(self._contacts), dtype=np.int64)
        self._contacts.clear()
        pairs = {
            (self.body_names[self._geom_body[a]], self.body_names[self._geom_body[b]])
            for a, b in codes.view(np.int32).reshape(-1, 2)
        }
        return sorted(pairs)

    @property
    def standing(self) -> bool:
        """True while the gantry has let go."""
        return self.gantry.state is GantryState.FREE
