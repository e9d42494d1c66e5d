"""Gauss-Newton steps over a whole trajectory: normal equations that couple a frame with its two neighbours.

All frames are solved together, so a planted foot, a smooth joint and a balanced body are weighed against each other
instead of one after the other. The matrix is block-pentadiagonal: its banded Cholesky factor costs a time linear in the
number of frames.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded


class NormalEquations:
    """Accumulates J^T J and J^T r of residuals over ``frames`` frames with ``dof`` unknowns each."""

    def __init__(self, frames: int, dof: int) -> None:
        self.frames, self.dof = frames, dof
        # _blocks[t, :, :] stacks H[t, t], H[t+1, t], H[t+2, t] one below the other.
        self._blocks = np.zeros((frames, 3 * dof, dof))
        self._gradient = np.zeros((frames, dof))
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.cost = 0.0

    @property
    def blocks(self) -> np.ndarray:
        """The lower blocks (T, 3 dof, dof) of J^T J."""
        self._flush()
        return self._blocks

    @property
    def gradient(self) -> np.ndarray:
        """J^T r (T, dof)."""
        self._flush()
        return self._gradient

    def add(self, jac: np.ndarray, residual: np.ndarray) -> None:
        """Add weighted residuals (T, M) of single frames with Jacobians (T, M, dof)."""
        # A residual has few rows; one product over the rows of all of them is several times faster than one each.
        self._waiting.append((jac, residual))
        self.cost += float(np.sum(residual**2))

    def _flush(self) -> None:
        if not self._waiting:
            return
        jac = np.concatenate([j for j, _ in self._waiting], axis=1)
        residual = np.concatenate([r for _, r in self._waiting], axis=1)
        self._waiting = []
        turned = np.swapaxes(jac, 1, 2)
        self._blocks[:, : self.dof] += turned @ jac
        self._gradient += (turned @ residual[:, :, None])[:, :, 0]

    def add_at(self, frames: np.ndarray, jac: np.ndarray, residual: np.ndarray) -> None:
        """Add weighted residuals (K, M) that belong to the frames (K,) (a frame may appear more than once)."""
        np.add.at(self._blocks[:, : self.dof], frames, np.swapaxes(jac, 1, 2) @ jac)
        np.add.at(self._gradient, frames, np.einsum('tmd,tm->td', jac, residual))
        self.cost += float(np.sum(residual**2))

    def add_diagonal(self, weight: np.ndarray, residual: np.ndarray) -> None:
        """Add residuals (T, dof) with the Jacobian ``diag(weight)`` (T, dof)."""
        index = np.arange(self.dof)
        self._blocks[:, index, index] += weight**2
        self._gradient += weight * residual
        self.cost += float(np.sum(residual**2))

    def add_chain(self, jacs: list[np.ndarray], residual: np.ndarray) -> None:
        """Add residuals (K, M) over consecutive frames: ``jacs[i]`` (K, M, dof) belongs to frame ``k + i``."""
        count, dof = len(residual), self.dof
        for i, jac_i in enumerate(jacs):
            self._gradient[i : i + count] += np.einsum('kmd,km->kd', jac_i, residual)
            for j in range(i, len(jacs)):
                rows = slice((j - i) * dof, (j - i + 1) * dof)
                self._blocks[i : i + count, rows] += np.swapaxes(jacs[j], 1, 2) @ jac_i
        self.cost += float(np.sum(residual**2))

    def add_diagonal_chain(self, weights: list[np.ndarray], residual: np.ndarray) -> None:
        """As :meth:`add_chain` with diagonal Jacobians: ``weights[i]`` (K, dof) or (dof,), residual (K, dof)."""
        count, dof = len(residual), self.dof
        index = np.arange(dof)
        for i, first in enumerate(weights):
            self._gradient[i : i + count] += first * residual
            for j in range(i, len(weights)):
                self._blocks[i : i + count, (j - i) * dof + index, index] += weights[j] * first
        self.cost += float(np.sum(residual**2))

    def solve(self, damping: float, frozen: np.ndarray) -> np.ndarray:
        """Return the step (T, dof); unknowns where ``frozen`` (T, dof) is true stay."""
        frames, dof = self.frames, self.dof
        blocks, gradient = self.blocks.copy(), np.where(frozen, 0.0, self.gradient)
        for shift in range(3):
            part = blocks[: frames - shift, shift * dof : (shift + 1) * dof]
            part[frozen[shift:]] = 0.0
            np.swapaxes(part, 1, 2)[frozen[: frames - shift]] = 0.0
        index = np.arange(dof)
        blocks[:, index, index] += np.where(frozen, 1.0, damping)
        height = 3 * dof
        padded = np.concatenate([blocks, np.zeros_like(blocks[:, :dof])], axis=1)
        rows = np.arange(height)[:, None] + index  # band row k of column c is block row k + c
        band = padded[:, rows, index]  # (T, height, dof)
        band = np.swapaxes(band, 0, 1).reshape(height, frames * dof)
        step = solveh_banded(band, -gradient.reshape(-1), lower=True, check_finite=False, overwrite_ab=True)
        return step.reshape(frames, dof)
