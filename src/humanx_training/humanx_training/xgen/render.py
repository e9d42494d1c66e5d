"""Pictures of a clip: an MP4 and a contact sheet, rendered off screen with the robot's meshes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio.v2 as imageio
import mujoco
import numpy as np

from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.scene import scene
from humanx_training.clip import InteractionClip


def frames(
    clip: InteractionClip, index: np.ndarray, tools: tuple[ObjectSpec, ...] = (), width: int = 480, height: int = 360
) -> Iterator[np.ndarray]:
    """Yield RGB pictures (height, width, 3) of the given frames, seen from the robot's front left."""
    objects = (clip.object_spec(),) if clip.has_object else ()
    try:
        model = scene([*objects, *tools], visual=True)
        renderer = mujoco.Renderer(model, height=height, width=width)
    except (RuntimeError, mujoco.FatalError) as error:
        raise UserError(
            f'no picture can be rendered ({error}); expected a working OpenGL: set MUJOCO_GL=egl or osmesa.'
        ) from None
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = 130.0, -18.0, 3.4
    qpos = clip.qpos()
    with renderer:
        for t in index:
            data.qpos[:] = qpos[t]
            mujoco.mj_forward(model, data)
            centre = clip.root_pos[t] * [1, 1, 0] + [0, 0, 0.75]
            if clip.has_object:
                offset = clip.object_pos[t] - centre
                reach = np.linalg.norm(offset[:2])
                # Between robot and object, as far as both stay in the picture.
                centre = centre + np.array([*(0.4 * offset[:2] * min(1.0, 2.0 / max(reach, 1e-6))), 0.0])
                camera.distance = float(np.clip(2.6 + 0.5 * reach, 2.8, 4.5))
            camera.lookat[:] = centre
            renderer.update_scene(data, camera)
            yield renderer.render()


def to_mp4(clip: InteractionClip, path: Path, tools: tuple[ObjectSpec, ...] = (), fps: float = 25.0,
           width: int = 480, height: int = 360) -> int:  # fmt: skip
    """Write the clip in real time as H.264 at ``fps``; return the number of pictures."""
    _check_target(path, '.mp4')
    step = max(1, round(clip.fps / fps))
    index = np.arange(0, clip.num_frames, step)
    with imageio.get_writer(path, fps=clip.fps / step, codec='libx264', quality=7, macro_block_size=2) as writer:
        for picture in frames(clip, index, tools, width, height):
            writer.append_data(picture)
    return len(index)


def to_sheet(
    clip: InteractionClip, path: Path, tools: tuple[ObjectSpec, ...] = (), columns: int = 4, rows: int = 3
) -> None:
    """Write a PNG of ``columns`` x ``rows`` pictures over the clip's time, each with its time and who touches the
    object."""
    import cv2

    _check_target(path, '.png')
    index = np.unique(np.linspace(0, clip.num_frames - 1, columns * rows).round().astype(int))
    if clip.contact.any():
        # The moments of contact must be on the sheet, however short they are.
        starts = [p.start for p in clip.phases if p.kind == 'contact']
        for start in starts:
            index[np.abs(index - start).argmin()] = start
    tiles = []
    for t, picture in zip(index, frames(clip, index, tools, 320, 240)):
        tile = picture.copy()
        touching = [b.replace('_link', '') for b, c in zip(clip.contact_bodies, clip.contact[t]) if c]
        kind = next((p.kind for p in clip.phases if p.start <= t < p.end), '')
        cv2.putText(tile, f'{t / clip.fps:.2f} s {kind}', (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1)
        cv2.putText(tile, ' '.join(touching), (6, 232), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (160, 20, 20), 1)
        tiles.append(tile)
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (columns * rows - len(tiles))
    lines = [np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)]
    imageio.imwrite(path, np.vstack(lines))


def _check_target(path: Path, suffix: str) -> None:
    if Path(path).suffix != suffix:
        raise UserError(f'{path}: ends in {Path(path).suffix!r}; expected {suffix}.')
    if not Path(path).resolve().parent.is_dir():
        raise UserError(f'{path}: its folder does not exist; expected an existing folder.')
