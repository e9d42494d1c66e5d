"""``humanx clip view``: the editor in the browser (viser).

Scrub the timeline; see robot, object, who touches it, and the pose before refinement; move contact boundaries, drag
the object and the tip of its release velocity; synthesise again, check, and save a copy with the skill file that
reproduces it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import viser

from humanx_description.errors import UserError
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xgen.view.editor import Editor
from humanx_training.xgen.view.robot_scene import RobotDrawing

_VELOCITY_SHOWN = 0.2  # s: a release velocity is drawn as the way it would take the object in that time
_PHASE_COLORS = {'contact': '#d9480f', 'flight': '#1971c2', 'rest': '#868e96', 'driven': '#5f3dc4'}


CAMERA_FOV = float(np.deg2rad(50.0))  # vertical


class View:
    """The browser's side of an :class:`Editor`."""

    def __init__(self, editor: Editor, host: str, port: int) -> None:
        self.editor = editor
        # One change at a time: callbacks come from several threads.
        self._lock = threading.RLock()
        self.server = viser.ViserServer(host=host, port=port, label='HumanX clip', verbose=False)
        self.server.scene.set_up_direction('+z')
        self.server.scene.add_grid('/floor', width=10.0, height=10.0, cell_size=0.5)
        self.playing = False
        self._dragging = False
        self._drawing: RobotDrawing | None = None
        self._ghost: RobotDrawing | None = None
        self._drawn: InteractionClip | None = None
        self.bounds: dict[tuple[int, str], viser.GuiInputHandle[float]] = {}
        camera = self.server.initial_camera
        camera.position, camera.look_at = first_view(editor.clip)
        camera.fov = CAMERA_FOV
        self._build_gui()
        self.redraw()

    def _build_gui(self) -> None:
        gui, clip = self.server.gui, self.editor.clip
        self.timeline = gui.add_slider('frame', 0, clip.num_frames - 1, 1, first_frame(clip))
        self.timeline.on_update(lambda _: self.redraw())
        self.play = gui.add_button('Play or pause')
        self.play.on_click(lambda _: self._toggle())
        self.ghost = gui.add_checkbox('pose before refinement', True)
        self.ghost.on_update(lambda _: self.redraw())
        self.phases = gui.add_html('')
        self.touching = gui.add_markdown('')
        self.message = gui.add_markdown('')
        if self.editor.can_edit:
            self._build_edit(gui)
        check = gui.add_button('Check')
        check.on_click(lambda _: self._guard(self._check))
        self.name = gui.add_text('save as', f'{self.editor.path.stem}_edited.npz')
        save = gui.add_button('Save copy')
        save.on_click(lambda _: self._guard(self._save))

    def _build_edit(self, gui: viser.GuiApi) -> None:
        with gui.add_folder('contacts'):
            for number, contact in enumerate(self.editor.recipe.contacts):
                start = gui.add_number(f'{number} start, s', round(contact.start, 3), step=0.01)
                self._add_bound(gui, start, number, 'start')
                if contact.end is not None:
                    end = gui.add_number(f'{number} end, s', round(contact.end, 3), step=0.01)
                    self._add_bound(gui, end, number, 'end')
        with gui.add_folder('object'):
            velocity = self.editor.release_velocity()
            if velocity is not None:
                self.velocity = gui.add_vector3('release velocity, m/s', tuple(np.round(velocity, 2)), step=0.1)
                self.velocity.on_update(
                    lambda _: self._guard(self.editor.set_release_velocity, self.velocity.value)
                )
        scene = self.server.scene
        self.handle = scene.add_transform_controls(
            '/object_handle', scale=0.35, disable_rotations=True, depth_test=False
        )
        self.handle.on_update(lambda event: self._dragged(event, self._place))
        self.tip: viser.TransformControlsHandle | None = None
        if self.editor.release() is not None:
            self.tip = scene.add_transform_controls(
                '/velocity_handle', scale=0.25, disable_rotations=True, depth_test=False
            )
            self.tip.on_update(lambda event: self._dragged(event, self._aim))
        make = gui.add_button('Synthesise again')
        make.on_click(lambda _: self._guard(self._make))

    def _add_bound(self, gui: viser.GuiApi, handle: viser.GuiInputHandle[float], number: int, which: str) -> None:
        handle.on_update(lambda _: self._guard(self._bound, number, which, handle.value))
        here = gui.add_button(f'{number}: {which} at this frame')
        here.on_click(lambda _: self._guard(self._mark, handle))
        self.bounds[number, which] = handle

    # Actions -------------------------------------------------------------------------------------
    def _guard(self, action, *args) -> None:
        with self._lock:
            try:
                action(*args)
            except UserError as error:
                self.message.content = f'**{error}**'

    def _toggle(self) -> None:
        self.playing = not self.playing

    def _bound(self, number: int, which: str, value: float) -> None:
        self.editor.move_boundary(number, **{which: float(value)})
        self.message.content = f'Contact {number} {which} moved to {value:.2f} s; synthesise again to see it.'

    def _mark(self, handle: viser.GuiInputHandle[float]) -> None:
        _assign(handle, round(self.editor.source_time(int(self.timeline.value)), 3))

    def _dragged(self, event: viser.TransformControlsEvent, action) -> None:
        # While a handle is dragged nothing else may move it: the timeline would.
        self._dragging = event.phase != 'end'
        if event.phase == 'end':
            self._guard(action)

    def _place(self) -> None:
        frame = int(self.timeline.value)
        moved = np.array(self.handle.position) - self.editor.clip.object_pos[frame]
        self.editor.place_object(np.array(self.handle.position), frame)
        self.message.content = (
            f'The object was moved by ({moved[0]:.3f}, {moved[1]:.3f}, {moved[2]:.3f}) m at '
            f'{frame / self.editor.clip.fps:.2f} s; synthesise again to see it.'
        )

    def _aim(self) -> None:
        found = self.editor.release()
        if found is None or self.tip is None:
            return
        point, _, heading = found
        world = (np.array(self.tip.position) - point) / _VELOCITY_SHOWN
        x, y, z = (float(round(v, 2)) for v in rotation.rotate_inverse(heading, world))
        velocity = (x, y, z)
        _assign(self.velocity, velocity)
        self.editor.set_release_velocity(velocity)
        self._draw_velocity(world)
        self.message.content = (
            f'The release velocity is ({velocity[0]:.2f}, {velocity[1]:.2f}, {velocity[2]:.2f}) m/s; '
            'synthesise again to see it.'
        )

    def _draw_velocity(self, world: np.ndarray) -> None:
        found = self.editor.release()
        if found is not None:
            ends = np.array([[found[0], found[0] + _VELOCITY_SHOWN * world]])
            self.server.scene.add_line_segments(
                '/velocity', ends, colors=(200, 30, 30), thickness=4.0, thickness_units='screen'
            )

    def _make(self) -> None:
        self.message.content = 'Synthesising ...'
        self.message.content = self.editor.resynthesise()
        self.timeline.max = self.editor.clip.num_frames - 1
        _assign(self.timeline, min(self.timeline.value, self.timeline.max))
        self.redraw()

    def _check(self) -> None:
        report = self.editor.check()
        self.message.content = 'The clip is good.' if report.good else '\n'.join(f'- {p}' for p in report.problems)

    def _save(self) -> None:
        name = Path(self.name.value)
        if name.name != self.name.value or name.suffix != '.npz':
            raise UserError(f'{self.name.value}: expected a file name that ends in .npz, without a folder.')
        clip, skill = self.editor.save_copy(self.editor.path.parent / name)
        self.message.content = f'Saved {clip}' + (f' and {skill}.' if skill else '.')

    # Drawing -------------------------------------------------------------------------------------
    def redraw(self) -> None:
        """Show the frame under the slider."""
        with self._lock, self.server.atomic():
            clip = self.editor.clip
            if self._drawn is not clip:
                self._load(clip)
            frame = min(int(self.timeline.value), clip.num_frames - 1)
            assert self._drawing is not None
            self._drawing.pose(clip.qpos()[frame])
            reference = self.editor.reference
            if self._ghost is not None:
                show = reference is not None and self.ghost.value
                self._ghost.root.visible = show
                if reference is not None and show:
                    self._ghost.pose(reference[frame])
            if self.editor.can_edit and clip.has_object and not self._dragging:
                self.handle.position = clip.object_pos[frame]
            touching = [b for b, c in zip(clip.contact_bodies, clip.contact[frame]) if c]
            kind = next((p.kind for p in clip.phases if p.start <= frame < p.end), '')
            self.touching.content = (
                f'{frame / clip.fps:.2f} s, {kind}; touching: {", ".join(touching) if touching else "nothing"}'
            )

    def _load(self, clip: InteractionClip) -> None:
        objects = (clip.object_spec(),) if clip.has_object else ()
        if self._drawing is not None:
            self._drawing.root.remove()
        self._drawing = RobotDrawing(self.server, 'robot', (*objects, *self.editor.tools))
        if self._ghost is None and self.editor.reference is not None:
            self._ghost = RobotDrawing(
                self.server, 'reference', self.editor.tools, color=(80, 140, 220), opacity=0.35
            )
        if clip.has_object:
            self.server.scene.add_spline_catmull_rom(
                '/path', clip.object_pos[:: max(1, clip.num_frames // 200)], color=(230, 120, 30),
                thickness=2.0, thickness_units='screen',
            )  # fmt: skip
        found = self.editor.release()
        if self.editor.can_edit and self.tip is not None and found is not None:
            self.tip.position = found[0] + _VELOCITY_SHOWN * found[1]
            self._draw_velocity(found[1])
        self.phases.content = _phase_bar(clip)
        self._drawn = clip

    def run(self) -> None:
        """Play until interrupted."""
        while True:
            begun = time.monotonic()
            if self.playing:
                clip = self.editor.clip
                step = max(1, round(clip.fps / 25))
                _assign(self.timeline, (int(self.timeline.value) + step) % clip.num_frames)
            time.sleep(max(0.0, 0.04 - (time.monotonic() - begun)))


def _assign(handle: viser.GuiInputHandle[Any], value: Any) -> None:
    handle.value = value  # type: ignore[misc]  # viser writes the setter apart from its property


def first_frame(clip: InteractionClip) -> int:
    """Return the frame that is shown first: where the first contact begins."""
    return min((p.start for p in clip.phases if p.kind == 'contact'), default=0)


def first_view(clip: InteractionClip) -> tuple[np.ndarray, np.ndarray]:
    """Return where the camera is at first and what it looks at (3,) m: the robot from its front left, left of the
    middle, where no panel covers it."""
    frame = first_frame(clip)
    heading = rotation.from_yaw(rotation.yaw(clip.root_quat[frame]))
    target = clip.root_pos[frame] * [1.0, 1.0, 0.0] + rotation.rotate(heading, np.array([0.2, 0.7, 0.6]))
    return target + rotation.rotate(heading, np.array([2.0, 1.3, 0.7])), target


def _phase_bar(clip: InteractionClip) -> str:
    """Return HTML: phases as a coloured bar, below it the contact graph, one line per body that ever touches."""
    cells = ''.join(
        f'<div title="{p.kind} {p.anchor}" style="flex:{p.end - p.start};background:{_PHASE_COLORS[p.kind]};'
        f'color:#fff;font-size:9px;overflow:hidden">{p.kind}</div>'
        for p in clip.phases
    )
    rows = [f'<div style="display:flex">{cells}</div>']
    for body, column in zip(clip.contact_bodies, clip.contact.T):
        if column.any():
            edges = np.flatnonzero(np.diff(np.r_[-1, column.astype(int), -1]))
            parts = ''.join(
                f'<div style="flex:{b - a};height:6px;background:{"#2b8a3e" if column[a] else "#e9ecef"}"></div>'
                for a, b in zip(edges[:-1], edges[1:])
            )
            rows.append(f'<div style="font-size:9px">{body}</div><div style="display:flex">{parts}</div>')
    return '<div style="padding:0 1em">' + ''.join(rows) + '</div>'


def serve(
    clip: InteractionClip, path: Path, *, skill: str | None = None, host: str = '127.0.0.1', port: int = 8080
) -> None:
    """Show a clip in the browser until interrupted."""
    view = View(Editor(clip, Path(path), skill), host, port)
    print(f'http://{host}:{view.server.get_port()}', flush=True)
    try:
        view.run()
    finally:
        view.server.stop()
