# The robot's computer: ROS 2 Jazzy with the graph, for amd64 and arm64.
#   docker build -f docker/robot.Dockerfile -t humanx-robot .
FROM ros:jazzy

WORKDIR /humanx
# Dependencies first, so that a change of the code does not install them again.
COPY requirements.lock ./
COPY scripts/cyclonedds_binding scripts/
COPY docker/install-robot-extras docker/
RUN docker/install-robot-extras && rm -rf /var/lib/apt/lists/*

COPY src src
COPY launch launch
# humanx_training stays out: nothing on the robot imports it.
RUN touch src/humanx_training/COLCON_IGNORE \
    && apt-get update -qq && rosdep update --rosdistro jazzy \
    && rosdep install --rosdistro jazzy --from-paths src launch --ignore-src -y --skip-keys rviz2 \
    && . /opt/ros/jazzy/setup.sh \
    && colcon build --base-paths src launch --packages-skip tf2_msgs \
    && rm -rf build log /var/lib/apt/lists/*

ENV ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
COPY docker/entrypoint /entrypoint
ENTRYPOINT ["/entrypoint"]
CMD ["ros2", "launch", "humanx", "bringup_mocap.launch.py", "skill:=stand"]
