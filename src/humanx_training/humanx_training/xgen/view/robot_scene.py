"""Draws the robot, its reference pose as a ghost, and the object into a viser scene."""

from __future__ import annotations

import mujoco
import numpy as np
import viser

from humanx_description.objects import ObjectSpec
from humanx_description.scene import scene


class RobotDrawing:
    """One robot: a frame per body with its meshes; :meth:`pose` moves the frames."""

    def __init__(
        self,
        server: viser.ViserServer,
        name: str,
        objects: tuple[ObjectSpec, ...],
        *,
        color: tuple[int, int, int] | None = None,
        opacity: float | None = None,
    ) -> None:
        self.model = scene(objects, visual=True)
        self.data = mujoco.MjData(self.model)
        self._frames: dict[int, viser.FrameHandle] = {}
        self.root = server.scene.add_frame(f'/{name}', show_axes=False)
        model = self.model
        for geom in range(model.ngeom):
            body = int(model.geom_bodyid[geom])
            if body == 0 or (model.geom(geom).name or '').endswith('_collision'):
                continue
            if body not in self._frames:
                self._frames[body] = server.scene.add_frame(f'/{name}/{model.body(body).name}', show_axes=False)
            path = f'/{name}/{model.body(body).name}/{geom}'
            shade = color or tuple(int(255 * c) for c in model.geom_rgba[geom][:3])
            self._add(server, path, geom, shade, opacity)

    def _add(self, server: viser.ViserServer, path: str, geom: int, color: tuple, opacity: float | None) -> None:
        model, kind, size = self.model, self.model.geom_type[geom], self.model.geom_size[geom]
        place = {'position': model.geom_pos[geom], 'wxyz': model.geom_quat[geom]}
        types = mujoco.mjtGeom
        if kind == types.mjGEOM_MESH:
            mesh = model.geom_dataid[geom]
            first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            start, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
            server.scene.add_mesh_simple(
                path, model.mesh_vert[first : first + count], model.mesh_face[start : start + faces],
                color=color, opacity=opacity, **place,
            )  # fmt: skip
        elif kind == types.mjGEOM_SPHERE:
            server.scene.add_icosphere(path, radius=float(size[0]), color=color, opacity=opacity, **place)
        elif kind == types.mjGEOM_BOX:
            server.scene.add_box(path, dimensions=tuple(2 * size), color=color, opacity=opacity, **place)
        elif kind in (types.mjGEOM_CYLINDER, types.mjGEOM_CAPSULE):
            height = 2 * float(size[1]) + (2 * float(size[0]) if kind == types.mjGEOM_CAPSULE else 0.0)
            server.scene.add_cylinder(
                path, radius=float(size[0]), height=height, color=color, opacity=opacity, **place
            )

    def pose(self, qpos: np.ndarray) -> None:
        """Move all bodies to a configuration (nq,)."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        for body, frame in self._frames.items():
            frame.position, frame.wxyz = self.data.xpos[body], self.data.xquat[body]

