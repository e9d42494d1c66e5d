"""``humanx up`` with the real nodes, each test on ROS and DDS domains of its own."""

import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from humanx_description import discovery

pytestmark = pytest.mark.ros


class Graph:
    """A started ``humanx up``: its output so far, and its processes."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        line = [sys.executable, '-m', 'humanx.cli', 'up', 'mocap', '--skill', 'stand']
        self.process = subprocess.Popen(
            [*line, '--dds-domain', env['ROS_DOMAIN_ID'], *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._seen: set[psutil.Process] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()

    def wait_for(self, pattern: str, timeout: float = 180.0) -> None:
        with self._changed:
            found = self._changed.wait_for(lambda: any(re.search(pattern, line) for line in self.lines), timeout)
        assert found, '\n'.join(self.lines)

    def children(self) -> set[psutil.Process]:
        """Return every process that was ever seen under the launcher."""
        self._seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._seen

    def node(self, module: str) -> psutil.Process:
        return next(p for p in self.children() if module in p.cmdline())

    def end(self, timeout: float = 120.0) -> int:
        status = self.process.wait(timeout=timeout)
        _, alive = psutil.wait_procs(list(self._seen), timeout=60)
        assert alive == [], 'left running'
        return status


@pytest.fixture
def up(ros_env):
    graphs: list[Graph] = []

    def start(*arguments: str) -> Graph:
        graphs.append(Graph(ros_env, *arguments))
        return graphs[-1]

    yield start
    for graph in graphs:
        if graph.process.poll() is None:
            graph.process.send_signal(signal.SIGINT)
            try:
                graph.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                graph.process.kill()


READY = r'\[g1_driver\].*DAMP: the robot is heard'


def test_ctrl_c_stops_everything(up):
    graph = up()
    graph.wait_for(READY)
    assert len(graph.children()) >= 5
    graph.process.send_signal(signal.SIGINT)
    assert graph.end() == 0
    assert '[humanx] SIGINT: stopping' in graph.lines


@pytest.mark.parametrize('later', [0.0, 0.7])
def test_ctrl_c_while_the_nodes_are_still_starting_is_no_failure(up, later):
    graph = up()
    deadline = time.monotonic() + 60
    while len(graph.children()) < 5:  # the nodes; what they start themselves comes later
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(later)
    graph.process.send_signal(signal.SIGINT)
    assert graph.end() == 0, graph.lines
    assert not any('Traceback' in line for line in graph.lines), graph.lines


@pytest.mark.parametrize('module', ['humanx_policy.node', 'humanx_g1_driver.node'])
def test_a_killed_node_ends_the_graph_with_status_1(up, module):
    graph = up()
    graph.wait_for(READY)
    graph.node(module).kill()
    graph.children()
    assert graph.end() == 1
    assert any(line.endswith('was killed by SIGKILL') for line in graph.lines)
    assert any(line.endswith('is required: stopping everything') for line in graph.lines)


def test_nothing_is_heard_beyond_this_machine_unless_asked(up, ros_env):
    del ros_env[discovery.RANGE]
    graph = up()
    graph.wait_for(READY)
    assert len(graph.children()) >= 5
    settings = [child.environ() for child in graph.children()]
    assert all(discovery.is_confined(environ) for environ in settings)
    graph.process.send_signal(signal.SIGINT)
    assert graph.end() == 0


def test_a_missing_model_of_the_robot_ends_the_graph_with_one_sentence(up, ros_env):
    ros_env['HUMANX_G1_MJCF'] = '/nowhere/g1.xml'
    graph = up()
    time.sleep(0.5)
    graph.children()
    assert graph.end() == 2
    said = [line for line in graph.lines if 'HUMANX_G1_MJCF names /nowhere/g1.xml' in line and 'expected' in line]
    assert len(said) == 1, graph.lines
    assert not any('Traceback' in line for line in graph.lines), graph.lines


def test_a_value_out_of_range_ends_the_graph_with_the_nodes_sentence(up):
    graph = up('--param', 'sim_g1.mocap.rate_hz=1')
    time.sleep(0.5)
    graph.children()
    assert graph.end() == 2
    assert any('mocap.rate_hz' in line and 'expected' in line for line in graph.lines), graph.lines
    assert not any('Traceback' in line for line in graph.lines)
