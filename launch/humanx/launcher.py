"""Starts a list of nodes as processes of this machine and stops all of them again, whatever happens.

What ``ros2 launch`` does on a full ROS 2 machine, for environments that have none: output with the node's name in
front, everything stopped on Ctrl-C or when a required node ends, nothing left running. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from humanx.graph import NAMESPACE, NodeSpec, Value, config_dir
from humanx_description import interrupts

_PR_SET_PDEATHSIG = 1
_COLOURS = (36, 33, 32, 35, 34, 31, 96, 93)
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """A started node, and the part of its output that has no line end yet."""

    spec: NodeSpec
    process: subprocess.Popen
    colour: int
    pending: bytes = b''
    asked_to_stop: bool = False
    reported: bool = False


@dataclass
class Launcher:
    """Runs nodes until a required one ends, a signal comes, or ``duration`` seconds have passed.

    ``linger``: seconds between a required node's end and the stop of the others, in which the driver notices, damps
    the robot and publishes why. ``grace``: seconds that a node has to end after SIGINT, and again after SIGTERM,
    before it is killed. ``on_tick`` is called about every 50 ms.
    """

    specs: Sequence[NodeSpec]
    duration: float | None = None
    linger: float = 1.0
    grace: float = 5.0
    out: IO[str] = field(default_factory=lambda: sys.stdout)
    on_tick: Callable[[], None] | None = None
    children: list[Child] = field(default_factory=list, init=False)
    _signal: int | None = field(default=None, init=False)
    _stop: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Have :meth:`run` stop everything and return; from any thread, and of no effect once it has returned."""
        self._stop = True

    def run(self) -> int:
        """Start everything, wait, stop everything; return 0, or the exit status that says what failed.

        0: stopped by a signal, :meth:`stop` or ``duration``, and every node ended well. 2: a node refused its input (it
        ended with status 2). 1: anything else.
        """
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                previous = signal.signal(number, self._on_signal)
                stack.callback(signal.signal, number, previous)
            selector = stack.enter_context(selectors.DefaultSelector())
            try:
                for index, spec in enumerate(self.specs):
                    child = self._start(spec, _COLOURS[index % len(_COLOURS)])
                    self.children.append(child)
                    assert child.process.stdout is not None
                    selector.register(child.process.stdout, selectors.EVENT_READ, child)
                failed = self._wait(selector)
            finally:
                self._stop_all(selector)
        return self._exit_status(failed)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signal = number

    def _start(self, spec: NodeSpec, colour: int) -> Child:
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
        parent = os.getpid()

        def in_child() -> None:
            # Should this launcher be killed, the kernel stops the node: nothing may be left driving a robot.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            interrupts.hold()
            if os.getppid() != parent:
                os._exit(1)

        process = subprocess.Popen(
            command(spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            # A session of its own: Ctrl-C reaches only the launcher, which then stops the nodes in their order.
            start_new_session=True,
            preexec_fn=in_child,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return Child(spec, process, colour)

    def _wait(self, selector: selectors.BaseSelector) -> Child | None:
        """Pass output on until it is time to stop; return the required node that ended, if one did."""
        deadline = None if self.duration is None else time.monotonic() + self.duration
        while self._signal is None:
            if self._stop:
                self._say('done: stopping')
                return None
            if deadline is not None and time.monotonic() >= deadline:
                self._say(f'{self.duration:g} s are over: stopping')
                return None
            self._pump(selector, 0.05)
            if self.on_tick is not None:
                self.on_tick()
            for child in self.children:
                if child.process.poll() is None or child.reported:
                    continue
                self._report(child)
                if child.spec.required:
                    self._say(f'{child.spec.name} is required: stopping everything')
                    self._pump_for(selector, self.linger)
                    return child
        self._say(f'{signal.Signals(self._signal).name}: stopping')
        return None

    def _stop_all(self, selector: selectors.BaseSelector) -> None:
        for order in sorted({child.spec.stop_order for child in self.children}):
            group = [child for child in self.children if child.spec.stop_order == order]
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                alive = [child for child in group if child.process.poll() is None]
                if not alive:
                    break
                for child in alive:
                    child.asked_to_stop = True
                    if number != signal.SIGINT:
                        self._say(f'{child.spec.name} does not end: {signal.Signals(number).name}')
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.process.pid, number)
                deadline = time.monotonic() + self.grace
                while time.monotonic() < deadline and any(c.process.poll() is None for c in alive):
                    self._pump(selector, 0.02)
        self._pump(selector, 0.0)
        for child in self.children:
            # What a node itself may have started (an encoder, for example) lives in its session.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
            if not child.reported and _failed(child):
                self._report(child)

    def _exit_status(self, failed: Child | None) -> int:
        if failed is not None:
            return 2 if failed.process.returncode == 2 else 1
        codes = [child.process.returncode for child in self.children if _failed(child)]
        if not codes:
            return 0
        return 2 if all(code == 2 for code in codes) else 1

    def _report(self, child: Child) -> None:
        child.reported = True
        code = child.process.returncode
        how = f'was killed by {signal.Signals(-code).name}' if code < 0 else f'ended with status {code}'
        self._say(f'{child.spec.name} {how}')

    def _pump_for(self, selector: selectors.BaseSelector, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._signal is None:
            self._pump(selector, 0.05)

    def _pump(self, selector: selectors.BaseSelector, timeout: float) -> None:
        """Print what the nodes wrote, line by line."""
        if not selector.get_map():
            time.sleep(timeout)
            return
        for key, _ in selector.select(timeout):
            child: Child = key.data
            try:
                data = os.read(key.fd, 65536)
            except BlockingIOError:
                continue
            if not data:
                selector.unregister(key.fileobj)
                if child.pending:
                    self._print(child.spec.name, child.colour, child.pending)
                    child.pending = b''
                continue
            *lines, child.pending = (child.pending + data).split(b'\n')
            for line in lines:
                self._print(child.spec.name, child.colour, line)

    def _say(self, text: str) -> None:
        self._print('humanx', 1, text.encode())

    def _print(self, name: str, colour: int, line: bytes) -> None:
        prefix = f'[{name}]'
        if self.out.isatty():
            prefix = f'\033[{colour}m{prefix}\033[0m'
        # A closed terminal must not keep the nodes from being stopped.
        with contextlib.suppress(OSError, ValueError):
            print(prefix, line.decode(errors='replace').rstrip('\r'), file=self.out, flush=True)


def command(spec: NodeSpec) -> list[str]:
    """Return the command line that starts a node: ``python -m`` with the ROS arguments a launch file would give."""
    line = [sys.executable, '-m', spec.module, '--ros-args', '-r', f'__ns:={NAMESPACE}', '-r', f'__node:={spec.name}']
    if spec.config is not None:
        line += ['--params-file', str(config_dir() / spec.config)]
    for name, value in spec.parameters.items():
        line += ['-p', f'{name}:={yaml_value(value)}']
    return line


def yaml_value(value: Value) -> str:
    """Return a parameter value as ROS reads it from a command line: a string stays one even where it looks like 1."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return '[' + ', '.join(map(yaml_value, value)) + ']'
    return repr(value)


def _failed(child: Child) -> bool:
    code = child.process.returncode
    if code == 0:
        return False
    # Asked to stop, a node may also end by that very signal.
    return not (child.asked_to_stop and code in (-signal.SIGINT, -signal.SIGTERM, 130, 143))
