"""A film of a recorded trial, rendered without a screen."""

import os
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from humanx_description.assets import g1_mjcf
from humanx_description.errors import UserError
from humanx_description.scene import scene_spec
from humanx_description.skills import Skill
from humanx_g1_driver.bag_judge import TRUTH_TOPIC, skill_of
from humanx_g1_driver.bag_read import messages, open_bag, read_session

FPS = 25
LEAD_S = 2.0  # shown of what came before RUN
# Vertices of the robot's meshes closer than this become one: 393,000 triangles become 40,000, which a software
# renderer draws with shadows at 8 frames a second instead of 1; at this size nobody sees it.
_CELL = 0.009  # m


def render_bag(path: Path, out: Path, *, width: int = 640, height: int = 480, max_seconds: float = 60.0) -> int:
    """Write the ground truth of a bag as MP4 (H.264), from two seconds before RUN; return the number of frames.

    Raises :class:`UserError` for a bag without ground truth, an output that is not ``.mp4`` or a machine that cannot
    render. The file appears only when it is whole.
    """
    if out.suffix != '.mp4' or not out.parent.is_dir():
        raise UserError(f'{out}: expected a file ending in .mp4 in an existing folder.')
    with open_bag(path) as reader:
        skill = skill_of(read_session(reader), path)
        samples = [
            (m.sim_time, np.array(m.qpos), _caption(m), m.since_run) for _, m in messages(reader, TRUTH_TOPIC)
        ]  # fmt: skip
    if not samples:
        raise UserError(f'{path}: holds no ground truth ({TRUTH_TOPIC}); nothing can be rendered.')
    began = next((time for time, _, _, since_run in samples if since_run >= 0), samples[0][0])
    frames = _resample([entry[:3] for entry in samples if entry[0] >= began - LEAD_S], max_seconds)
    _encode(skill, frames, out, width, height)
    return len(frames)


def _caption(truth: Any) -> str:
    if truth.since_run < 0:
        return ('on the gantry', 'being lowered', 'stand')[truth.gantry]
    return f'run {truth.since_run:5.1f} s'


def _resample(samples: list[tuple[float, np.ndarray, str]], max_seconds: float) -> list[tuple[np.ndarray, str]]:
    """Return one sample per frame period of simulated time, the newest at that time; at most ``max_seconds``."""
    times = np.array([time for time, _, _ in samples])
    count = int(min(times[-1] - times[0], max_seconds) * FPS) + 1
    indices = np.searchsorted(times, times[0] + np.arange(count) / FPS, side='right') - 1
    return [(samples[i][1], samples[i][2]) for i in indices]


def _encode(skill: Skill, frames: list[tuple[np.ndarray, str]], out: Path, width: int, height: int) -> None:
    import imageio.v2 as imageio

    model = film_model(skill)
    data = mujoco.MjData(model)
    partial = out.with_name(f'.{out.stem}.partial-{os.getpid()}.mp4')
    try:
        renderer = mujoco.Renderer(model, height, width)
    except Exception as error:  # the GL back ends raise whatever their bindings raise
        raise UserError(
            f'this machine cannot render ({error}); expected EGL or OSMesa (apt-get install libegl1 libosmesa6), '
            'chosen by MUJOCO_GL=egl or osmesa.'
        ) from None
    try:
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        camera = _camera(frames)
        with imageio.get_writer(partial, fps=FPS, codec='libx264', macro_block_size=2, quality=7) as writer:
            film: Any = writer  # imageio's own types do not say what a writer can do
            for qpos, caption in frames:
                data.qpos[:] = qpos
                mujoco.mj_kinematics(model, data)
                mujoco.mj_camlight(model, data)
                renderer.update_scene(data, camera)
                film.append_data(_label(renderer.render(), f'{skill.name}  {caption}'))
        os.replace(partial, out)
    finally:
        renderer.close()
        partial.unlink(missing_ok=True)


def _camera(frames: list[tuple[np.ndarray, str]]) -> mujoco.MjvCamera:
    """Return a camera that looks from the front left at where robot and object are in the film, on average."""
    robot = np.mean([qpos[:2] for qpos, _ in frames], axis=0)
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (robot[0] + 0.6, robot[1], 0.65)
    camera.distance, camera.azimuth, camera.elevation = 3.4, 125.0, -14.0
    return camera


def _label(image: np.ndarray, text: str) -> np.ndarray:
    """Return the image with a line of text at its lower left."""
    from PIL import Image, ImageDraw, ImageFont  # comes with imageio, where OpenCV does not: the robot's computer

    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text(
        (10, picture.height - 12), text, font=ImageFont.load_default(16), anchor='ls',
        fill=(20, 20, 20), stroke_width=2, stroke_fill=(255, 255, 255),
    )  # fmt: skip
    return np.asarray(picture)


def film_model(skill: Skill) -> mujoco.MjModel:
    """Return the skill's scene with the robot's meshes made coarse enough for a software renderer."""
    spec = scene_spec(skill.objects, visual=True)
    folder = g1_mjcf().parent / (spec.meshdir or '')
    for mesh in spec.meshes:
        if not mesh.file:
            continue
        triangles = _read_stl(folder / mesh.file)
        if triangles is None:
            continue
        vertices, faces = _cluster(triangles, _CELL)
        mesh.file = ''
        mesh.uservert = vertices.astype(np.float32).ravel()
        mesh.userface = faces.astype(np.int32).ravel()
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1920, 1080
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.35] * 3, [0.25] * 3
    for light in spec.lights:
        light.diffuse = [0.45] * 3
    return spec.compile()


def _read_stl(path: Path) -> np.ndarray | None:
    """Return the triangles (N, 3, 3) of a binary STL file, None if it is something else."""
    content = path.read_bytes()
    count = int.from_bytes(content[80:84], 'little')
    if len(content) != 84 + 50 * count:
        return None
    record = np.dtype([('normal', '<f4', 3), ('vertices', '<f4', (3, 3)), ('attribute', '<u2')])
    return np.frombuffer(content, record, count, 84)['vertices']


def _cluster(triangles: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and faces (F, 3): those in each cube of edge ``cell`` are merged into their mean."""
    points = triangles.reshape(-1, 3).astype(np.float64)
    _, index, count = np.unique(
        np.floor(points / cell).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    index = index.ravel()
    vertices = np.stack([np.bincount(index, points[:, axis]) for axis in range(3)], axis=1) / count[:, None]
    faces = index.reshape(-1, 3)
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (a != c)]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return vertices, faces[first]
