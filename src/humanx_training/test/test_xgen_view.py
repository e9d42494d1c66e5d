"""The editor, and once through the browser: look, move a boundary, synthesise, check, save, reproduce."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from humanx_description.errors import UserError
from humanx_description.skills import load_skill, skill_path
from humanx_training.clip import InteractionClip
from humanx_training.xgen.plan import nominal
from humanx_training.xgen.run import job_of, make, run
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.view.editor import Editor
from humanx_training.xgen.view.server import CAMERA_FOV, View, first_frame, first_view

sys.path.insert(0, str(Path(__file__).parent))
from browser import Browser, chromium


@pytest.fixture(scope='module')
def clip_file(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('view') / 'set'
    run('football', folder, clips=1, workers=1, progress=False)
    return folder / 'clip_000.npz'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def reproduced(skill_file: Path) -> InteractionClip:
    job = job_of(load_skill(skill_file), str(skill_file), 0, skill_file.parent)
    return make(job, nominal(job.recipe, job.spec), Stage(job.tools)).clip


def test_an_edit_is_saved_with_the_skill_that_reproduces_it(clip_file):
    editor = Editor(InteractionClip.load(clip_file), clip_file, 'football')
    before = editor.clip.object_pos.copy()
    editor.set_release_velocity((2.0, 0.5, 0.0))
    strike = next(p.start for p in editor.clip.phases if p.kind == 'contact')
    editor.place_object(editor.clip.object_pos[strike] + [0.0, 0.02, 0.0], strike)
    assert editor.resynthesise().endswith('passes its check.')
    assert np.allclose(editor.release_velocity()[:2], [2.0, 0.5], atol=0.02)
    assert np.abs(editor.clip.object_pos - before).max() > 0.01
    assert editor.reference is not None
    assert editor.reference.shape == (editor.clip.num_frames, 36)
    clip, skill = editor.save_copy(clip_file.parent / 'edited.npz')
    assert np.allclose(reproduced(skill).object_pos, InteractionClip.load(clip).object_pos, atol=1e-9)
    with pytest.raises(UserError, match='exists'):
        editor.save_copy(clip_file.parent / 'edited.npz')


def test_an_impossible_edit_leaves_the_clip(clip_file):
    editor = Editor(InteractionClip.load(clip_file), clip_file, 'football')
    shown = editor.clip
    editor.place_object(shown.object_pos[0] + [0, 3.0, 0], 0)
    assert editor.resynthesise().startswith('Not feasible')
    assert editor.clip is shown
    with pytest.raises(UserError, match='contact 7'):
        editor.move_boundary(7, start=0.1)
    with pytest.raises(UserError, match='after start'):
        editor.move_boundary(0, start=2.0, end=1.0)


def waited(clip, before, after):
    """Return a clip with its first frame held ``before`` frames longer and its last one ``after`` frames."""
    arrays = {
        name: np.pad(value, ((before, after), (0, 0)), mode='edge')
        for name in ('root_pos', 'root_quat', 'joint_pos', 'object_pos', 'object_quat', 'contact')
        for value in (getattr(clip, name),)
    }
    first, *others, last = (replace(p, start=p.start + before, end=p.end + before) for p in clip.phases)
    phases = (replace(first, start=0), *others, replace(last, end=last.end + after))
    return replace(clip, phases=phases, **arrays)


def test_a_boundary_is_marked_at_the_frame_that_is_shown(clip_file, tmp_path):
    source = yaml.safe_load(skill_path('football').read_text())
    source['xgen']['contacts'][0].update(start=0.2, end=1.8)
    path = tmp_path / 'football.yaml'
    path.write_text(yaml.safe_dump(source))
    editor = Editor(waited(InteractionClip.load(clip_file), 130, 40), clip_file, str(path))
    clip, motion = editor.clip, editor.job.motion
    strike = next(p.start for p in clip.phases if p.kind == 'contact')
    time = editor.source_time(strike)
    frame = motion.clip_start + round(time * motion.fps)
    assert np.allclose(clip.joint_pos[strike - 20 : strike + 20, :12], motion.joint_pos[frame - 20 : frame + 20, :12])
    view = View(editor, '127.0.0.1', free_port())
    try:
        view.timeline.value = strike + 10
        view._mark(view.bounds[0, 'end'])
        view.timeline.value = strike - 10
        view._mark(view.bounds[0, 'start'])
    finally:
        view.server.stop()
    contact = editor.recipe.contacts[0]
    assert (contact.start, contact.end) == pytest.approx((time - 0.1, time + 0.1), abs=2e-3)


WINDOW = (900, 640)


def drag_arrow(page, clip, at, scale, axis, way, said):
    """Drag the arrow of a handle at ``at`` (3,) m along its ``axis`` by ``way`` m, until the page says ``said``."""
    size = np.array(page.run('[window.innerWidth, window.innerHeight]'), dtype=float)
    axis = np.array(axis, dtype=float)
    # Where on the arrow a press is felt depends on how it is drawn: its middle, or a little further out or in.
    for share in (0.6, 0.75, 0.45):
        grip = at + share * scale * axis
        page.drag(pixel(clip, grip, size), pixel(clip, grip + way * axis, size))
        try:
            page.wait(f'document.body.innerText.includes({said!r})', 15)
        except TimeoutError:
            continue
        return
    raise AssertionError(f'no arrow was dragged: {page.run("document.body.innerText")!r}')


def pixel(clip, point, size):
    """Return where (x, y) the first camera sees a point (3,) m in a window of ``size`` (2,)."""
    position, target = first_view(clip)
    ahead = (target - position) / np.linalg.norm(target - position)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    ray = point - position
    focal = 0.5 * size[1] / np.tan(0.5 * CAMERA_FOV)
    x, y, depth = ray @ right, ray @ np.cross(right, ahead), ray @ ahead
    return tuple(float(v) for v in (0.5 * size[0] + focal * x / depth, 0.5 * size[1] - focal * y / depth))


def numbers(page, pattern):
    found = re.search(pattern, page.run('document.body.innerText'))
    assert found
    return np.array([float(v) for v in found.group(1).split(',')])


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason='no Chromium is installed (apt-get install chromium)')
def test_once_through_the_browser(clip_file, tmp_path):
    command = [sys.executable, '-m', 'humanx.cli', 'clip', 'view', str(clip_file), '--port', str(free_port())]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ, PYTHONUNBUFFERED='1')
    )
    try:
        url = None
        for line in server.stdout:
            if found := re.match(r'(http://127\.0\.0\.1:\d+)$', line.strip()):
                url = found.group(1)
                break
        assert url, 'the viewer did not say its address'
        shown = InteractionClip.load(clip_file)
        with Browser(url, tmp_path / 'profile', WINDOW) as page:
            page.wait("!!(window.hx && hx.leaf('Save copy'))", 120)
            page.wait("document.body.innerText.includes('touching: right_ankle_roll_link')")
            assert page.run("!!document.querySelector('canvas')")
            # The object to its left by 3 cm, then the tip of its velocity: both by their arrows, with the mouse.
            place = shown.object_pos[first_frame(shown)]
            drag_arrow(page, shown, place, 0.35, [0, 1, 0], 0.03, 'The object was moved by')
            moved = numbers(page, r'moved by \(([^)]*)\) m')
            assert moved[1] == pytest.approx(0.03, abs=0.015)
            assert np.abs(moved[[0, 2]]).max() < 1e-3
            end = next(p.end for p in shown.phases if p.kind == 'contact')
            speed = (shown.object_pos[end] - shown.object_pos[end - 1]) * shown.fps
            tip = shown.object_pos[end - 1] + 0.2 * speed
            drag_arrow(page, shown, tip, 0.25, [1, 0, 0], -0.1, 'The release velocity is')
            aimed = numbers(page, r'velocity is \(([^)]*)\) m/s')
            assert np.linalg.norm(aimed) == pytest.approx(np.linalg.norm(speed + [-0.5, 0, 0]), abs=0.15)
            assert page.run("hx.set('0 start, s', '1.0')")
            page.wait("document.body.innerText.includes('Contact 0 start moved to 1.00')")
            assert page.run("hx.click('Synthesise again')")
            page.wait("document.body.innerText.includes('passes its check')", 120)
            assert page.run("hx.click('Check')")
            page.wait("document.body.innerText.includes('The clip is good')")
            assert page.run("hx.set('save as', 'by_browser.npz')")
            page.run("hx.click('Save copy')")
            page.wait("document.body.innerText.includes('Saved')")
    finally:
        server.terminate()
        server.wait(timeout=20)
    saved = InteractionClip.load(clip_file.parent / 'by_browser.npz')
    again = reproduced(clip_file.parent / 'by_browser.yaml')
    assert np.allclose(again.object_pos, saved.object_pos, atol=1e-9)
    # What was dragged is what was made.
    shift = saved.object_pos[first_frame(saved)] - place
    assert shift[1] == pytest.approx(moved[1], abs=0.01)
    assert np.abs(shift[[0, 2]]).max() < 0.02  # it touches the foot elsewhere
    contact = next(p for p in saved.phases if p.kind == 'contact')
    left = (saved.object_pos[contact.end] - saved.object_pos[contact.end - 1]) * saved.fps
    assert np.linalg.norm(left) == pytest.approx(np.linalg.norm(aimed), abs=0.05)
