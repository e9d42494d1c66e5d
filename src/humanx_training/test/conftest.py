"""Fixtures shared by the tests of the training side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from humanx_description.paths import data_dir


@pytest.fixture(scope='session')
def data() -> Path:
    """The folder of real motions and videos, or a skip that says so."""
    folder = data_dir()
    if not folder.is_dir():
        pytest.skip(f'no real data: {folder} is absent (set HUMANX_DATA)')
    return folder


@pytest.fixture
def person():
    """A synthetic person, 2 s at 30 Hz: stands, lifts the left foot 15 cm for 0.6 s, raises the right arm."""
    from humanx_training.xgen.extract.smpl import motion_from_pose

    frames, fps = 61, 30.0
    poses = np.zeros((frames, 24, 3))
    poses[:, 0] = [np.pi / 2, 0.0, 0.0]  # SMPL's y-up body, standing in a z-up world
    time = np.arange(frames) / fps
    swing = np.clip((time - 0.7) / 0.6, 0, 1)
    lift = np.sin(np.pi * swing) ** 2
    poses[:, 1, 0] = -0.9 * lift  # left hip
    poses[:, 4, 0] = 1.1 * lift  # left knee
    poses[:, 16, 2] = -1.2  # arms hang
    poses[:, 17, 2] = 1.2 - 1.6 * np.clip(time - 0.5, 0, 1)
    trans = np.tile([0.0, 0.0, 1.17], (frames, 1))
    return motion_from_pose(Path('person.npz'), poses, trans, np.zeros(10), fps, False, y_up=False)
