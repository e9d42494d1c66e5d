"""Policies asked for many robots at once: a policy file, or a function during training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from humanx_description.errors import UserError
from humanx_policy import model_file
from humanx_policy.metadata import PolicyError, PolicyMetadata


class BatchPolicy(Protocol):
    """What the closed loop needs of a policy."""

    metadata: PolicyMetadata

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, 29) for observations (N, O), float32."""
        ...


class FunctionPolicy:
    """A policy given as a function of observations (N, O) float32, e.g. a network in training."""

    def __init__(self, metadata: PolicyMetadata, function: Callable[[np.ndarray], np.ndarray]) -> None:
        """Keep the metadata that the function's actions and observations follow."""
        self.metadata = metadata
        self._function = function

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, 29)."""
        return np.asarray(self._function(obs), np.float32)


class OnnxPolicy:
    """A checked policy file whose graph is run on batches.

    The file's graph has a batch of one; the copy in memory gets a free batch axis. A graph that cannot be run that way
    (its own reshapes) is run row by row, with the same numbers.
    """

    def __init__(self, path: Path) -> None:
        """Read and check ``path``; raises :class:`UserError` as the robot would."""
        content = model_file.read_bytes(path)
        try:
            self._single, self.metadata = model_file.inspect(content)
        except PolicyError as error:
            raise UserError(f'{path}: {error.problems[0]}') from None
        self.path = path
        self.sha256 = model_file.sha256(content)
        self._batched = _batched_session(content, self._single)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, 29)."""
        obs = np.ascontiguousarray(obs, np.float32)
        if self._batched is not None:
            return self._batched.run([model_file.OUTPUT], {model_file.INPUT: obs})[0]
        rows = [self._single.run([model_file.OUTPUT], {model_file.INPUT: row[None]})[0] for row in obs]
        return np.concatenate(rows)


def _batched_session(content: bytes, single):
    import onnx

    proto = onnx.load_from_string(content)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = 'batch'
    del proto.graph.value_info[:]
    try:
        session = model_file.open_session(proto.SerializeToString())
        width = single.get_inputs()[0].shape[1]
        probe = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
        batch = session.run([model_file.OUTPUT], {model_file.INPUT: probe})[0]
        rows = [single.run([model_file.OUTPUT], {model_file.INPUT: row[None]})[0][0] for row in probe]
    except Exception:  # whatever the runtime raises for a graph with a fixed batch
        return None
    return session if batch.shape == (3, 29) and np.allclose(batch, rows, atol=1e-5) else None
