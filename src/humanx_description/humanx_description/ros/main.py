"""The frame around a node: start, spin, clean stop, and an exit status that says what happened."""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from humanx_description import interrupts
from humanx_description.discovery import stay_on_this_machine
from humanx_description.errors import UserError


def run_node(factory: Callable[[], Node], argv: Sequence[str] | None = None) -> int:
    """Run the node that ``factory`` makes until it is told to stop. Returns the exit status.

    0 after SIGINT or SIGTERM; 2 with one sentence on standard error where the node refuses to start
    (:class:`UserError`); 1 where it cannot go on. A node may have ``close()``, called before it is
    destroyed, and ``failure``, a sentence that makes the status 1.
    """
    stay_on_this_machine()
    try:
        rclpy.init(args=list(argv) if argv is not None else None)
    except Exception as error:  # rclpy names no common base for what a bad YAML file or argument raises
        print(f'The ROS arguments are wrong: {_first_line(error)}', file=sys.stderr)
        return 2
    # rclpy handles SIGINT and SIGTERM by shutting the context down; both mean "stop", not "fail".
    node: Any = None
    try:
        interrupts.release()
        node = factory()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal may break whatever is just being done: an import, a wait on a context that has ended, or a
        # message's conversion, into which Python raises KeyboardInterrupt.
        if not _was_told_to_stop():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            if hasattr(node, 'close'):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    failure = getattr(node, 'failure', '')
    if failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _was_told_to_stop() -> bool:
    """Tell whether a signal has ended the context; rclpy does that in a thread of its own, a moment later."""
    deadline = time.monotonic() + 0.2
    while rclpy.ok() and time.monotonic() < deadline:
        time.sleep(0.005)
    return not rclpy.ok()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
