"""The gantry that a G1 hangs from before its motors carry it.

A real G1 is started hanging, feet off the floor; once the controller holds the standing pose, the rope is paid out
until the feet carry the weight, and is then taken off. The virtual gantry does the same with a force on the pelvis: a
rope that pulls up but never pushes down, and hands that keep the robot upright and in place while the rope is taut.
"""

import mujoco
import numpy as np

from humanx_g1_driver.sim.protocol import GantryState

GRAVITY = 9.81  # m/s^2


class Gantry:
    """A one-sided rope on the pelvis with a guide that fades as the rope goes slack.

    ``lift`` (m) is how far the feet hang above the floor, ``lowering_speed`` (m/s) how fast the rope is paid out.
    """

    def __init__(
        self, model: mujoco.MjModel, root_height: float, *, lift: float = 0.18, lowering_speed: float = 0.15
    ) -> None:
        self._weight = GRAVITY * float(model.body_subtreemass[model.body('pelvis').id])
        mass = self._weight / GRAVITY
        # The guide moves the whole robot with 1.6 Hz, critically damped; stiff enough to hold, soft enough not to kick.
        self._k = mass * 10.0**2
        self._c = 2.0 * mass * 10.0
        self._k_turn, self._c_turn = 400.0, 80.0  # N m/rad, N m s/rad: about 5 kg m^2 at 9 rad/s
        self._root_height = root_height
        self.lift = lift
        self._speed = lowering_speed
        self._dt = float(model.opt.timestep)
        self._anchor = np.zeros(3)
        self._slack_steps = 0
        self.state = GantryState.FREE
        self.tension = 0.0  # N

    def hold(self, xy: tuple[float, float] = (0.0, 0.0)) -> None:
        """Hang the robot over ``xy`` (m, world) with its feet off the floor."""
        self._anchor[:] = (*xy, self._root_height + self.lift)
        self._slack_steps = 0
        self.state = GantryState.HELD

    def lower(self) -> None:
        """Begin to pay out the rope; the state becomes FREE once it hangs slack."""
        if self.state is GantryState.HELD:
            self.state = GantryState.LOWERING

    def drop(self) -> None:
        """Let go at once."""
        self.state = GantryState.FREE

    def apply(self, qpos: np.ndarray, qvel: np.ndarray, force: np.ndarray) -> None:
        """Set the six generalised forces of the root (N in the world frame, N m in the pelvis frame) for this step."""
        if self.state is GantryState.FREE:
            self.tension = 0.0
            force[:6] = 0.0
            return
        if self.state is GantryState.LOWERING:
            self._anchor[2] -= self._speed * self._dt
        pull = self._k * (self._anchor[2] - qpos[2]) - self._c * qvel[2] + self._weight
        self.tension = min(max(pull, 0.0), 3.0 * self._weight)
        # A slack rope guides nothing.
        share = min(self.tension / self._weight, 1.0)
        force[0] = share * (self._k * (self._anchor[0] - qpos[0]) - self._c * qvel[0])
        force[1] = share * (self._k * (self._anchor[1] - qpos[1]) - self._c * qvel[1])
        force[2] = self.tension
        # Rotation error of the pelvis against upright, facing +x: twice the vector part for small angles.
        sign = -2.0 if qpos[3] >= 0.0 else 2.0
        for axis in range(3):
            force[3 + axis] = share * (self._k_turn * sign * qpos[4 + axis] - self._c_turn * qvel[3 + axis])
        if self.state is GantryState.LOWERING:
            slack = self.tension < 0.02 * self._weight
            self._slack_steps = self._slack_steps + 1 if slack else 0
            if self._slack_steps * self._dt >= 0.1:
                self.state = GantryState.FREE
