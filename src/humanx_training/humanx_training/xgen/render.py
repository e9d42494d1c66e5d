"""Pictures of a clip: an MP4 and a contact sheet, rendered off screen with the robot's meshes.

The camera holds robot and object in the picture; small spheres show the object's path half a second back and ahead.
"""

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

_AZIMUTH, _ELEVATION = 130.0, -15.0  # deg: from the robot's front left
_ROBOT = np.array([0.45, 0.45, 0.7])  # m: half a box around (pelvis, 0.7 m) that holds the robot
_FARTHEST = 3.0  # m: an object further off than this leaves the picture (the robot would become too small)
_TRAIL = 0.5  # s of the object's path shown before and after
_TRAIL_STEP = 0.04  # s
_CAPTION = 20  # pixels
_BACK, _AHEAD = np.array([0.25, 0.45, 0.85, 0.8]), np.array([0.9, 0.35, 0.1, 0.35])


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
    # The scene's lamps together burn the floor out.
    model.light_diffuse *= 0.4
    model.light_specular[:] = 0.0
    model.vis.headlight.specular[:] = 0.0
    data = mujoco.MjData(model)
    centre, distance = view_of(clip, model.vis.global_.fovy, width / height)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation = _AZIMUTH, _ELEVATION
    qpos = clip.qpos()
    with renderer:
        for t in index:
            data.qpos[:] = qpos[t]
            mujoco.mj_forward(model, data)
            camera.lookat[:], camera.distance = centre[t], distance[t]
            renderer.update_scene(data, camera)
            if clip.has_object:
                _draw_path(renderer.scene, clip, int(t))
            yield renderer.render()


def view_of(clip: InteractionClip, fovy: float, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what the camera looks at (T, 3) and from how far (T,) m, so that robot and object are in the picture.

    ``fovy`` (deg) is the camera's vertical field of view, ``aspect`` width by height of the picture. Both paths are
    averaged over a second: a camera that jumps with every bounce is hard to watch.
    """
    robot = clip.root_pos * [1.0, 1.0, 0.0] + [0.0, 0.0, 0.7]
    low, high = robot - _ROBOT, robot + _ROBOT
    if clip.has_object:
        size = clip.object_spec().bounding_radius() + 0.05
        near = np.linalg.norm(clip.object_pos[:, :2] - robot[:, :2], axis=1) < _FARTHEST
        near &= clip.object_pos[:, 2] < _FARTHEST
        low = np.where(near[:, None], np.minimum(low, clip.object_pos - size), low)
        high = np.where(near[:, None], np.maximum(high, clip.object_pos + size), high)
    centre = 0.5 * (low + high)
    # Half extents of the box across, and up, as the camera sees it.
    across = np.array([np.sin(np.deg2rad(_AZIMUTH)), np.cos(np.deg2rad(_AZIMUTH))])
    half = 0.5 * (high - low)
    wide = half[:, :2] @ np.abs(across)
    deep = half[:, :2] @ np.abs(across[::-1])
    tall = half[:, 2] + deep * np.sin(np.deg2rad(-_ELEVATION))
    tangent = np.tan(np.deg2rad(0.5 * fovy))
    distance = np.maximum(wide / (tangent * aspect), tall / tangent) + deep
    count = max(1, round(clip.fps)) | 1
    kernel = np.hanning(count + 2)[1:-1]
    kernel /= kernel.sum()

    def smooth(column: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(column, count // 2, mode='edge'), kernel, mode='valid')

    return np.stack([smooth(c) for c in centre.T], axis=1), smooth(distance)


def _draw_path(drawn: mujoco.MjvScene, clip: InteractionClip, frame: int) -> None:
    """Add the object's path around a frame, and a halo around an object too small to see."""
    step = max(1, round(_TRAIL_STEP * clip.fps))
    reach = round(_TRAIL * clip.fps)
    times = range(frame - reach, frame + reach + 1, step)
    dots = [(t, 0.012) for t in times if 0 <= t < clip.num_frames and t != frame]
    if clip.object_spec().bounding_radius() < 0.1 and clip.object_spec().shape != 'mesh':
        dots.append((frame, 0.06))
    for t, radius in dots:
        if drawn.ngeom >= drawn.maxgeom:
            return
        color = _BACK if t < frame else _AHEAD
        mujoco.mjv_initGeom(
            drawn.geoms[drawn.ngeom], mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, radius), clip.object_pos[t],
            np.eye(3).ravel(), color.astype(np.float32),
        )  # fmt: skip
        drawn.ngeom += 1


def captioned(clip: InteractionClip, frame: int, picture: np.ndarray) -> np.ndarray:
    """Return the picture below a line with the frame's time, its phase and what touches the object."""
    import cv2

    touching = [b.replace('_link', '') for b, c in zip(clip.contact_bodies, clip.contact[frame]) if c]
    kind = next((p.kind for p in clip.phases if p.start <= frame < p.end), '')
    bar = np.full((_CAPTION, picture.shape[1], 3), (40, 44, 52), dtype=np.uint8)
    text = f'{frame / clip.fps:.2f} s  {kind}  {" ".join(touching)}'
    scale = min(0.42, 0.42 * (picture.shape[1] - 8) / cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0])
    cv2.putText(bar, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, scale, (245, 245, 245), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def to_mp4(clip: InteractionClip, path: Path, tools: tuple[ObjectSpec, ...] = (), fps: float = 25.0,
           width: int = 480, height: int = 360) -> int:  # fmt: skip
    """Write the clip in real time as H.264 at ``fps``; return the number of pictures.

    The film is written beside ``path`` and moved there when it is complete. Raises :class:`UserError`.
    """
    _check_target(path, '.mp4')
    if not 1 <= fps <= clip.fps:
        raise UserError(f"--fps is {fps:g}; expected 1 to the clip's {clip.fps:g} pictures per second.")
    step = max(1, round(clip.fps / fps))
    index = np.arange(0, clip.num_frames, step)
    partial = Path(path).with_name(f'.{Path(path).stem}.partial.mp4')
    try:
        with imageio.get_writer(
            partial, fps=clip.fps / step, codec='libx264', quality=7, macro_block_size=2
        ) as writer:
            for t, picture in zip(index, frames(clip, index, tools, width, height)):
                # imageio's stub names a base class of what it returns.
                writer.append_data(captioned(clip, int(t), picture))  # type: ignore[attr-defined]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(index)


def to_sheet(
    clip: InteractionClip, path: Path, tools: tuple[ObjectSpec, ...] = (), columns: int = 4, rows: int = 3
) -> None:
    """Write a PNG of ``columns`` x ``rows`` pictures, each with its time and who touches the object."""
    _check_target(path, '.png')
    index = sheet_frames(clip, columns * rows)
    tiles = [captioned(clip, int(t), p) for t, p in zip(index, frames(clip, index, tools, 320, 240))]
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (columns * rows - len(tiles))
    lines = [np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)]
    imageio.imwrite(path, np.vstack(lines))


def sheet_frames(clip: InteractionClip, count: int) -> np.ndarray:
    """Return at most ``count`` ascending frames for a contact sheet: dense where something happens, begin and end too.

    A frame weighs 1, and 4 from a second before each contact begins to half a second after it, and a second after it
    ends. Every begin of a contact is among them, however short it is.
    """
    weight = np.ones(clip.num_frames)
    contacts = [p for p in clip.phases if p.kind == 'contact']
    for phase in contacts:
        for edge, before, after in ((phase.start, 1.0, 0.5), (phase.end, 0.3, 1.0)):
            low, high = edge - round(before * clip.fps), edge + round(after * clip.fps)
            weight[max(0, low) : max(0, high)] = 4.0
    share = np.cumsum(weight) - weight
    wanted = np.linspace(0, share[-1], count)
    index = np.unique(np.searchsorted(share, wanted).clip(0, clip.num_frames - 1))
    for phase in contacts[: count - 2]:
        index[1:-1][np.abs(index[1:-1] - phase.start).argmin()] = phase.start
    return np.unique(index)


def _check_target(path: Path, suffix: str) -> None:
    if Path(path).suffix != suffix:
        raise UserError(f'{path}: ends in {Path(path).suffix!r}; expected {suffix}.')
    if not Path(path).resolve().parent.is_dir():
        raise UserError(f'{path}: its folder does not exist; expected an existing folder.')
