"""The two ends of the robot's wire: the driver's and the robot's.

Both speak the topics of Unitree's SDK, ``rt/lowcmd`` and ``rt/lowstate``, on one named network interface. The simulated
robot uses the robot's end, so that the driver cannot tell it from the real one.
"""

import time
from typing import Protocol

from cyclonedds.topic import Topic

from humanx_g1_driver import dds
from humanx_g1_driver.sdk import message_types
from humanx_g1_driver.wire import LowCmdBuffer, LowStateBuffer

LOWCMD_TOPIC = 'rt/lowcmd'
LOWSTATE_TOPIC = 'rt/lowstate'


class CommandTransport(Protocol):
    """What the control loop needs of a transport. Nothing here may block."""

    def send_command(self, command: LowCmdBuffer) -> None:
        """Seal and send a command."""

    def poll_state(self, state: LowStateBuffer) -> bool:
        """Load the newest state that has not been loaded yet; False if there is none or it is damaged."""

    def foreign_writers(self) -> list[int]:
        """Return handles of other processes' writers of the command topic."""

    def foreign_command_heard(self) -> bool:
        """Tell whether another process's command was heard since the last call."""

    def close(self) -> None:
        """Leave the network."""


class DdsCommandTransport:
    """The driver's end: writes ``rt/lowcmd``, reads ``rt/lowstate``, and listens for other writers of ``rt/lowcmd``.

    The writer is made by :meth:`open_writer`, after the caller has seen that nobody else writes.
    """

    def __init__(self, domain_id: int, network_interface: str) -> None:
        command_type, state_type = message_types()
        self._participant = dds.join(domain_id, network_interface)
        self._command_topic: Topic = Topic(self._participant, LOWCMD_TOPIC, command_type)
        self._states = dds.RawReader(self._participant, Topic(self._participant, LOWSTATE_TOPIC, state_type))
        self._foreign = dds.RawReader(self._participant, self._command_topic)
        self._writer: dds.RawWriter | None = None
        self.damaged_states = 0

    def open_writer(self) -> None:
        """Become a writer of ``rt/lowcmd``."""
        if self._writer is None:
            self._writer = dds.RawWriter(self._participant, self._command_topic)

    def send_command(self, command: LowCmdBuffer) -> None:
        if self._writer is None:
            raise RuntimeError('open_writer() comes before send_command()')
        self._writer.write(command.seal())

    def poll_state(self, state: LowStateBuffer) -> bool:
        sample = self._states.take()
        if sample is None:
            return False
        if state.load(sample[0]) and state.crc_ok():
            return True
        self.damaged_states += 1
        return False

    def wait_state(self, timeout_s: float) -> bool:
        """Block until a state can be polled; False after the timeout."""
        return self._states.wait(timeout_s)

    def foreign_writers(self) -> list[int]:
        return self._foreign.writers()

    def foreign_command_heard(self) -> bool:
        return self._foreign.take() is not None

    def identify(self, handle: int) -> dds.WriterIdentity:
        """Return who is behind a handle of :meth:`foreign_writers`. Slow: not in the control loop."""
        return dds.identify(self._participant, self._foreign, handle)

    def find_foreign_writers(self, patience_s: float) -> list[dds.WriterIdentity]:
        """Look for living writers of ``rt/lowcmd`` for as long as discovery may take; return at once when one is found.

        Processes of this computer that are gone, but not yet forgotten, do not count.
        """
        deadline = time.monotonic() + patience_s
        while True:
            found = [self.identify(handle) for handle in self.foreign_writers()]
            living = [writer for writer in found if not writer.is_dead()]
            if living or time.monotonic() >= deadline:
                return living
            time.sleep(0.02)

    def close(self) -> None:
        # Deleting a participant deletes what it holds; the order keeps the binding from deleting twice.
        self._writer = None
        del self._states, self._foreign, self._command_topic, self._participant


class DdsRobotTransport:
    """The robot's end: writes ``rt/lowstate``, reads ``rt/lowcmd``."""

    def __init__(self, domain_id: int, network_interface: str) -> None:
        command_type, state_type = message_types()
        self._participant = dds.join(domain_id, network_interface)
        self._commands = dds.RawReader(self._participant, Topic(self._participant, LOWCMD_TOPIC, command_type))
        self._writer = dds.RawWriter(self._participant, Topic(self._participant, LOWSTATE_TOPIC, state_type))
        self.damaged_commands = 0

    def send_state(self, state: LowStateBuffer) -> None:
        """Seal and send a state."""
        self._writer.write(state.seal())

    def poll_command(self, command: LowCmdBuffer) -> bool:
        """Load the newest command that has not been loaded yet; False if there is none or it is damaged."""
        sample = self._commands.take()
        if sample is None:
            return False
        if command.load(sample[0]) and command.crc_ok():
            return True
        self.damaged_commands += 1
        return False

    def wait_command(self, timeout_s: float) -> bool:
        """Block until a command can be polled; False after the timeout."""
        return self._commands.wait(timeout_s)

    def command_writers(self) -> list[int]:
        """Return the handles of the processes that write commands."""
        return self._commands.writers()

    def close(self) -> None:
        """Leave the network."""
        del self._writer, self._commands, self._participant
