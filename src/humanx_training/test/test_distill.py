"""Distillation: it learns, resumes, refuses foreign files, and exports what it learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from humanx_description.errors import UserError
from humanx_policy import observation as ob
from humanx_training.xmimic import precision
from humanx_training.xmimic.batch_policy import OnnxPolicy
from humanx_training.xmimic.distill import Distillation, DistillConfig, export_student, read_checkpoint

LAYOUT = ob.ObservationLayout(ob.mocap_terms(history=(0,)))


@dataclass
class Outcome:
    launched: bool = True
    success: bool = True
    upright: bool = True
    touched: bool = True


class LinearEnv:
    """Observations are noise, the teacher a linear map of the first 29 numbers."""

    def __init__(self, n: int = 64) -> None:
        self.n, self.layout = n, LAYOUT
        self.rng = np.random.default_rng(0)
        self.finished: list = []
        self._obs = self._draw()

    def _draw(self) -> np.ndarray:
        return self.rng.normal(size=(self.n, LAYOUT.size)).astype(np.float32)

    def observation(self) -> np.ndarray:
        return self._obs

    def label(self) -> np.ndarray:
        return (0.5 * self._obs[:, :29]).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        self._obs = self._draw()
        self.finished = [Outcome()] * self.n
        return np.ones(self.n, bool)


CONFIG = DistillConfig(samples=20_000, hidden=(64,), steps=4, updates=25, batch=256, capacity=8_000, mix_iterations=2)


def test_the_student_learns_the_teacher(tmp_path):
    run = Distillation(LinearEnv(), CONFIG, tmp_path)
    first = run.iterate(0.0)
    for _ in range(25):
        last = run.iterate(0.0)
    assert last < 0.25 * first
    row = run.report()
    assert row['success'] == 1.0
    assert row['samples'] == 27 * 4 * 64


def test_resume_continues_and_a_second_run_does_not_overwrite(tmp_path):
    run = Distillation(LinearEnv(), CONFIG, tmp_path)
    run.iterate(0.0)
    run.report()
    with pytest.raises(UserError, match='holds a run already'):
        Distillation(LinearEnv(), CONFIG, tmp_path)
    again = Distillation(LinearEnv(), CONFIG, tmp_path, resume=True)
    assert again.progress.iteration == 1
    for a, b in zip(run.student.parameters(), again.student.parameters()):
        torch.testing.assert_close(a, b)


def test_a_nan_label_stops_the_run(tmp_path):
    env = LinearEnv()
    env.label = lambda: np.full((env.n, 29), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"in iteration 0: the teacher's action is not finite; .*nonfinite\.pt"):
        Distillation(env, CONFIG, tmp_path).iterate(0.0)
    state = torch.load(tmp_path / 'nonfinite.pt', weights_only=True)
    assert state['label'].isnan().all()
    assert state['obs'].isfinite().all()


def test_foreign_files_are_refused(tmp_path):
    file = tmp_path / 'student.pt'
    with pytest.raises(UserError, match='does not exist'):
        read_checkpoint(file)
    file.write_bytes(b'not a checkpoint')
    with pytest.raises(UserError, match='cannot be read as a checkpoint'):
        read_checkpoint(file)
    torch.save({'format': 99}, file)
    with pytest.raises(UserError, match='is not a checkpoint'):
        read_checkpoint(file)


def test_export_computes_the_same(tmp_path):
    run = Distillation(LinearEnv(), CONFIG, tmp_path)
    run.iterate(0.0)
    run.report()
    path = tmp_path / 'football.onnx'
    export_student(
        tmp_path / 'student.pt', path, skill='football', mode='mocap', object_roles=('ball',), provenance={}
    )
    obs = np.random.default_rng(2).normal(size=(16, LAYOUT.size)).astype(np.float32)
    with torch.no_grad():
        wanted = run.student(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(OnnxPolicy(path).act(obs), wanted, atol=1e-5)


@pytest.mark.parametrize('capable', [True, False])
def test_products_are_rounded_only_where_that_is_fast_and_never_at_the_end(capable, monkeypatch):
    monkeypatch.setattr(precision, 'has_bfloat16', lambda: capable)
    layer, x = torch.nn.Linear(64, 8), torch.randn(4, 64)
    with precision.products(0.0):
        early = layer(x)
    assert early.dtype == (torch.bfloat16 if capable else torch.float32)
    early.float().square().mean().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    with precision.products(precision.EXACT_FROM):
        assert layer(x).dtype == torch.float32
