"""The control loop's process as the driver node sees it: start, ask, listen, stop."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from humanx_description import interrupts
from humanx_description.errors import UserError
from humanx_g1_driver import link as wire_link
from humanx_g1_driver.control_process import ControlConfig
from humanx_g1_driver.faults import Action, Answer, Problem
from humanx_g1_driver.link import Kind, Link, LinkClosed
from humanx_g1_driver.loop import ANSWER_S

START_S = 40.0  # releasing the motion service may take its time


class ControlLoopProcess:
    """Starts the loop and carries packets to and from it. :meth:`listen` runs in a thread of the caller's."""

    def __init__(self, config: ControlConfig) -> None:
        """Start the process and wait until it is on the wire; raise :class:`UserError` if it refuses."""
        self._link, theirs = Link.pair()
        self._lock = threading.Lock()
        self._answers: dict[int, Answer | None] = {}  # to what is being asked; None: not yet
        self._answered = threading.Condition()
        self._next_id = 1
        self.summary: np.void | None = None
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'humanx_g1_driver.control_process', str(theirs.fileno()), config.to_json()],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'},
            preexec_fn=interrupts.ignore,  # for the time before it can say so itself
        )
        theirs.close()
        try:
            self.realtime, self.realtime_sentence = self._wait_ready()
        except BaseException:
            self._link.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            self.process.kill()
            raise

    def _wait_ready(self) -> tuple[bool, str]:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                packet = self._link.receive(0.2)
            except LinkClosed:
                raise UserError(
                    f'The control loop ended at its start (status {self.process.wait()}); see its message above.'
                ) from None
            if packet is None:
                continue
            sentence = wire_link.read_text(packet['text'])
            if packet['kind'] == Kind.REFUSED:
                raise UserError(sentence)
            return bool(packet['realtime']), sentence
        raise UserError(f'The control loop was not ready within {START_S:.0f} s.')

    # To the loop; each returns False if the loop does not take it.

    def send_targets(self, packet: np.ndarray) -> bool:
        return self._send(packet)

    def send_heartbeat(self) -> bool:
        return self._send(_HEARTBEAT)

    def report(self, problem: Problem) -> bool:
        """Make the loop damp for something the ROS side noticed."""
        packet = wire_link.packet(Kind.PROBLEM)
        packet['fault'], packet['text'] = problem.fault, wire_link.text(problem.reason)
        return self._send(packet)

    def ask(self, action: Action) -> Answer:
        """Carry an operator's call to the safety machine and return its answer."""
        packet = wire_link.packet(Kind.REQUEST)
        with self._answered:
            number, self._next_id = self._next_id, self._next_id + 1
            packet['id'], packet['action'], packet['asked_at'] = number, action, time.monotonic()
            self._answers[number] = None
            try:
                if not self._send(packet):
                    return Answer(False, 'the control loop does not take requests')
                self._answered.wait_for(lambda: self._answers[number] is not None, ANSWER_S)
                return self._answers[number] or Answer(False, 'the control loop does not answer')
            finally:
                del self._answers[number]  # an answer that comes later has nobody waiting for it

    def _send(self, packet: np.ndarray) -> bool:
        try:
            with self._lock:
                return self._link.send(packet)
        except LinkClosed:
            return False  # the listener notices and says so

    # From the loop.

    def listen(self, on_packet: Callable[[np.void | None], None], wait_s: float) -> None:
        """Hand every packet to ``on_packet`` (None after each ``wait_s`` of silence) until the process is gone."""
        while True:
            try:
                packet = self._link.receive(wait_s)
            except LinkClosed:
                return
            if packet is None:
                on_packet(None)
            elif packet['kind'] == Kind.ANSWER:
                with self._answered:
                    if int(packet['id']) in self._answers:
                        self._answers[int(packet['id'])] = Answer(
                            bool(packet['accepted']), wire_link.read_text(packet['text'])
                        )
                        self._answered.notify_all()
            elif packet['kind'] == Kind.DONE:
                self.summary = packet
            else:
                on_packet(packet)

    def stop(self) -> None:
        """Ask the loop to damp and leave; return when it has left."""
        self._send(_QUIT)
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_HEARTBEAT = wire_link.packet(Kind.HEARTBEAT)
_QUIT = wire_link.packet(Kind.QUIT)
