"""Program ``sim_g1``: the simulated robot.

This process is the robot: physics and the robot's wire, one thread with a millisecond's deadlines, no ROS. A child of
it (:mod:`humanx_g1_driver.sim.ros_side`) is the mocap system and the operator's handle: topics, services, parameters.
In one process the two would share the interpreter's lock, and discovery of new ROS participants alone held the robot up
for 20 ms. Who kills or suspends this process kills or suspends the robot.
"""

import ctypes
import os
import signal
import subprocess
import sys

from humanx_description import interrupts
from humanx_description.errors import UserError
from humanx_g1_driver.realtime import ask_for_realtime, bind_thread, freeze_garbage
from humanx_g1_driver.sdk import message_types
from humanx_g1_driver.sim.channel import Channel, ChannelClosed
from humanx_g1_driver.sim.loop import SimLoop
from humanx_g1_driver.sim.protocol import Ready, SimParameters
from humanx_g1_driver.sim.robot_end import RobotEnd
from humanx_g1_driver.sim.world import World
from humanx_g1_driver.transport import DdsRobotTransport

_PR_SET_PDEATHSIG = 1


def _in_child() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    interrupts.ignore()  # this process decides when to stop, and hangs up


def main() -> int:
    """Run until interrupted; returns 2 for bad parameters, 1 if something failed."""
    stop = interrupts.StopRequest()
    channel, theirs = Channel.pair()
    child = subprocess.Popen(
        [sys.executable, '-m', 'humanx_g1_driver.sim.ros_side', str(theirs.fileno()), *sys.argv[1:]],
        pass_fds=(theirs.fileno(),),
        preexec_fn=_in_child,
    )
    theirs.close()
    transport = None
    try:
        parameters = _first_message(channel, stop)
        if parameters is None:
            return 0
        # Slow things first: under SCHED_FIFO they would hold up the robot's other programs.
        world = World(parameters.skill, parameters.world, seed=parameters.seed, generalise=parameters.generalise)
        message_types()
        # Before joining: the threads of the DDS library inherit the scheduling; starved, they hold locks and states
        # up. Locked, too: a page that the kernel took back costs more than the 20 ms after which the driver gives up.
        realtime = ask_for_realtime(parameters.realtime_priority)
        transport = DdsRobotTransport(parameters.dds_domain, parameters.network_interface)
        link = RobotEnd(transport, world.motors, mode_machine=parameters.mode_machine)
        loop = SimLoop(world, link, channel, snapshot_every=1000 // parameters.mocap.rate_hz)
        freeze_garbage()
        bind_thread(parameters.cpu)
        channel.send(Ready(realtime=realtime.sentence))
        loop.run(stop)
        return 0
    except UserError as error:
        channel.send(Ready(refusal=str(error)))
        return 2
    except FloatingPointError as error:
        print(f'sim_g1: {error}.', file=sys.stderr)
        return 1
    except ChannelClosed:
        # It said itself why it ended.
        status = child.wait()
        return status if status > 0 else 1
    finally:
        channel.close()
        if transport is not None:
            transport.close()
        try:
            child.wait(5.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _first_message(channel: Channel, stop: interrupts.StopRequest) -> SimParameters | None:
    while not stop():
        parameters = channel.receive(0.1)
        if parameters is not None:
            return parameters
    return None


if __name__ == '__main__':
    # Threads of numerical libraries would only get in the way of the millisecond.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    sys.exit(main())
