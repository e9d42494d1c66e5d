"""The robot as synthesis sees it: where its bodies, palms and tools are, and how far they are from an object.

The robot is a set of spheres, five along the axis of each of its collision capsules; distances to an object are those
of the spheres to the object's surface. Everything is positions (m), quaternions w first, world frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.robot import HAND_BODIES
from humanx_description.scene import scene
from humanx_training import rotation
from humanx_training.xgen.surface import Surface

PALMS = 'palms'
SITES = {'left_palm': 'left_palm', 'right_palm': 'right_palm'}
_SPHERES_PER_CAPSULE = 5
CONTACT_DISTANCE = 0.012  # m: nearer than this is contact (a capsule approximates a hand to about a centimetre)


@dataclass(frozen=True)
class Spheres:
    """Spheres fixed to bodies: ``N`` of them."""

    body: np.ndarray  # (N,) body ids that carry them
    owner: np.ndarray  # (N,) ids of the bodies that contact is labelled by (a tool is its own)
    pos: np.ndarray  # (N, 3) m, in the body's frame
    radius: np.ndarray  # (N,) m


class Stage:
    """The G1 with the tools it holds; forward kinematics and distances."""

    def __init__(self, tools: tuple[ObjectSpec, ...] = ()) -> None:
        self.model = scene(tools)
        self.data = mujoco.MjData(self.model)
        self.tools = tuple(t.name for t in tools)
        self.spheres = _spheres(self.model)
        names = [self.model.body(i).name for i in range(self.model.nbody)]
        self.body_names = tuple(names)

    def pose(self, qpos: np.ndarray) -> mujoco.MjData:
        """Set one configuration (36,) and return the data with kinematics done."""
        self.data.qpos[:36] = qpos[:36]
        mujoco.mj_kinematics(self.model, self.data)
        return self.data

    def anchor(self, qpos: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the anchor's pose over a motion: positions (T, 3) and quaternions (T, 4).

        ``palms``: the midpoint of both palms; y from the right palm to the left, x along the mean of the forearms.
        ``left_palm``, ``right_palm``, any body, any tool: that frame. Raises :class:`UserError` for an unknown name.
        """
        if name != PALMS and name not in SITES and name not in self.body_names:
            raise UserError(
                f'anchor is {name!r}; expected {PALMS}, left_palm, right_palm, a tool {list(self.tools)} or a body '
                f'of the '
                f'robot such as {", ".join(HAND_BODIES)}, right_ankle_roll_link.'
            )
        frames = len(qpos)
        pos, quat = np.empty((frames, 3)), np.empty((frames, 4))
        for t in range(frames):
            data = self.pose(qpos[t])
            if name == PALMS:
                pos[t], matrix = _palms_frame(data)
            elif name in SITES:
                site = data.site(SITES[name])
                pos[t], matrix = site.xpos, site.xmat.reshape(3, 3)
            else:
                body = data.body(name)
                pos[t], matrix = body.xpos, body.xmat.reshape(3, 3)
            mujoco.mju_mat2Quat(quat[t], matrix.ravel())
        return pos, rotation.continuous(quat)

    def body_pos(self, qpos: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Return body origins (T, len(names), 3)."""
        ids = [self.model.body(n).id for n in names]
        return np.array([self.pose(q).xpos[ids] for q in qpos])

    def distances(
        self, qpos: np.ndarray, surface: Surface, pos: np.ndarray, quat: np.ndarray
    ) -> np.ndarray:
        """Return signed distances (T, N) m of every sphere of the robot to the object."""
        local = (self.sphere_paths(qpos) - pos[:, None]) @ rotation.to_matrix(quat)
        return surface(local.reshape(-1, 3))[0].reshape(local.shape[:2]) - self.spheres.radius

    def sphere_paths(self, qpos: np.ndarray) -> np.ndarray:
        """Return the spheres' centres (T, N, 3) m over a motion (T, 36)."""
        xpos = np.empty((len(qpos), self.model.nbody, 3))
        xmat = np.empty((len(qpos), self.model.nbody, 9))
        for t in range(len(qpos)):
            data = self.pose(qpos[t])
            xpos[t], xmat[t] = data.xpos, data.xmat
        body, local = self.spheres.body, self.spheres.pos
        matrices = xmat[:, body].reshape(len(qpos), len(body), 3, 3)
        return xpos[:, body] + (matrices @ local[:, :, None])[..., 0]

    def sphere_centres(self, qpos: np.ndarray) -> np.ndarray:
        """Return the spheres' centres (N, 3) in one configuration."""
        data, spheres = self.pose(qpos), self.spheres
        matrices = data.xmat[spheres.body].reshape(-1, 3, 3)
        return data.xpos[spheres.body] + np.einsum('nij,nj->ni', matrices, spheres.pos)

    def contact_graph(
        self,
        qpos: np.ndarray,
        surface: Surface,
        pos: np.ndarray,
        quat: np.ndarray,
        bodies: tuple[str, ...],
    ) -> np.ndarray:
        """Return (T, B) bool: is the body within contact distance of the object (geometry alone)."""
        distances = self.distances(qpos, surface, pos, quat)
        out = np.zeros((len(qpos), len(bodies)), dtype=bool)
        for column, name in enumerate(bodies):
            mask = self.spheres.owner == self.model.body(name).id
            if mask.any():
                out[:, column] = distances[:, mask].min(axis=1) < CONTACT_DISTANCE
        return out


def _palms_frame(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
    left, right = data.site('left_palm'), data.site('right_palm')
    y = left.xpos - right.xpos
    y = y / max(np.linalg.norm(y), 1e-6)
    x = left.xmat.reshape(3, 3)[:, 0] + right.xmat.reshape(3, 3)[:, 0]
    x = x - (x @ y) * y
    x = x / max(np.linalg.norm(x), 1e-6)
    return 0.5 * (left.xpos + right.xpos), np.stack([x, y, np.cross(x, y)], axis=1)


def _spheres(model: mujoco.MjModel) -> Spheres:
    rows = []
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        kind = model.geom_type[geom]
        if body == 0:
            continue
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
        axis = matrix.reshape(3, 3)[:, 2]
        radius, half = model.geom_size[geom][:2]
        centre = model.geom_pos[geom]
        if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            rows.append((body, centre, radius))
        elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            for s in np.linspace(-half, half, _SPHERES_PER_CAPSULE):
                rows.append((body, centre + s * axis, radius))
        elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER and half <= radius:
            # A disc, such as a racket's string bed: a sunflower of small spheres, thick as the disc.
            for k in range(40):
                r, angle = (radius - half) * np.sqrt((k + 0.5) / 40), k * np.pi * (3 - np.sqrt(5))
                local = np.array([r * np.cos(angle), r * np.sin(angle), 0.0])
                rows.append((body, centre + matrix.reshape(3, 3) @ local, half))
    bodies = np.array([r[0] for r in rows])
    return Spheres(bodies, bodies.copy(), np.array([r[1] for r in rows]), np.array([r[2] for r in rows]))
