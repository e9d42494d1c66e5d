"""The network of a policy, ready to be asked 100 times a second."""

from pathlib import Path

import numpy as np

from humanx_description import robot
from humanx_policy import model_file
from humanx_policy.metadata import PolicyError, PolicyMetadata


class PolicyRuntime:
    """A checked policy file with its inputs and outputs bound to preallocated memory."""

    def __init__(self, path: Path) -> None:
        """Load ``path``. Raises :class:`UserError` or, where it is refused, :class:`PolicyError`."""
        content = model_file.read_bytes(path)
        try:
            self._session, metadata = model_file.inspect(content)
        except PolicyError as error:
            raise PolicyError([f'{path}: {problem}' for problem in error.problems]) from None
        self.path = path
        self.metadata: PolicyMetadata = metadata
        self.layout = metadata.observation_terms
        self.sha256 = model_file.sha256(content)
        self.observation = np.zeros((1, self.layout.size), dtype=np.float32)
        self._action = np.zeros((1, robot.NUM_JOINTS), dtype=np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_input(
            model_file.INPUT, 'cpu', 0, np.float32, self.observation.shape,
            self.observation.ctypes.data,
        )  # fmt: skip
        self._binding.bind_output(model_file.OUTPUT, 'cpu', 0, np.float32, self._action.shape, self._action.ctypes.data)

    def act(self) -> np.ndarray:
        """Run the network on ``self.observation`` (1, O).

        Returns the action (1, 29): the same memory on every call, so copy what must outlive the
        next one.
        """
        self._session.run_with_iobinding(self._binding)
        return self._action
