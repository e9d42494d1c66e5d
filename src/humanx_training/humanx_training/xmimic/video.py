"""A grid of trials as a video, for a quick look at what an evaluation counted."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np

from humanx_description.errors import UserError
from humanx_description.scene import scene
from humanx_description.skills import Skill
from humanx_training.xmimic.batch_policy import BatchPolicy
from humanx_training.xmimic.closed_loop import Conditions, run_states

_COLLISION = 3  # the group of the robot's collision shapes
_GREY = (0.75, 0.77, 0.8, 1.0)


def write_grid(
    skill: Skill, policy: BatchPolicy, seeds: list[int], conditions: Conditions, path: Path, *,
    width: int = 240, height: int = 176, fps: int = 25,
) -> None:
    """Render one generalisation trial per seed side by side into an MP4.

    The robot is drawn by its collision shapes: without a graphics card its meshes take ten times as long, a quarter of
    an hour for nine trials, and a tile is too small to show them.
    """
    try:
        import imageio.v2 as imageio
    except ImportError:
        raise UserError('--video needs the packages imageio and imageio-ffmpeg; install them.') from None
    states = run_states(skill, policy, seeds, generalise=True, conditions=conditions)
    model = scene(skill.objects)
    data = mujoco.MjData(model)
    columns = math.ceil(math.sqrt(len(seeds)))
    rows = math.ceil(len(seeds) / columns)
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.4, 0.5
    model.light_diffuse *= 0.4
    shapes = model.geom_group == _COLLISION
    model.geom_rgba[shapes] = _GREY
    options = mujoco.MjvOption()
    options.geomgroup[:] = 1  # collision shapes are in a group that is not drawn by default
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = 3.2, 150.0, -15.0
    path.parent.mkdir(parents=True, exist_ok=True)
    with mujoco.Renderer(model, height, width) as renderer, imageio.get_writer(path, fps=fps) as writer:
        for frame in range(0, len(states), round(100 / fps)):
            grid = np.zeros((rows * height, columns * width, 3), np.uint8)
            for index, qpos in enumerate(states[frame]):
                data.qpos[:] = qpos
                mujoco.mj_forward(model, data)
                camera.lookat[:] = [qpos[0] + 0.5, qpos[1], 0.6]
                renderer.update_scene(data, camera, options)
                r, c = divmod(index, columns)
                grid[r * height : (r + 1) * height, c * width : (c + 1) * width] = renderer.render()
            # imageio's stub names a base class of what it returns.
            writer.append_data(grid)  # type: ignore[attr-defined]
