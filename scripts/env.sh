# Source this (bash or zsh) to work in the project: activates the pip environment, the colcon overlay and safe ROS defaults.
_humanx_root="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)"
. "$_humanx_root/.venv/bin/activate"
export AMENT_PREFIX_PATH="$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
export CMAKE_PREFIX_PATH="$VIRTUAL_ENV${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
if [ -f "$_humanx_root/install/local_setup.bash" ]; then
  . "$_humanx_root/install/local_setup.bash"
fi
# Python sources win over installed copies, so that an edit is live without a rebuild.
for _pkg in "$_humanx_root"/src/*/ "$_humanx_root"/launch/; do
  if [ -f "$_pkg/setup.py" ]; then PYTHONPATH="${_pkg%/}${PYTHONPATH:+:$PYTHONPATH}"; fi
done
export PYTHONPATH
PATH="$_humanx_root/launch/bin:$PATH"
unset _pkg
# Nothing is heard beyond this machine unless somebody asks for it.
export RMW_IMPLEMENTATION="${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}"
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
export MUJOCO_GL="${MUJOCO_GL:-egl}"
