"""MuJoCo models of the G1 with a floor and objects.

One function, :func:`scene`, makes every model of the project (training, synthesis, the simulated robot), so
that all of them share one contact model. ``qpos`` is the robot's 36 numbers, then 7 per free object in the
order given.
"""

from collections.abc import Sequence
from typing import Any, Literal

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.assets import g1_mjcf
from humanx_description.errors import UserError
from humanx_description.objects import ObjectSpec
from humanx_description.restitution import OBJECT_SOLIMP, bounce_solref

FLOOR = 'floor'
# Collision groups (contype bits).
_FLOOR_BIT, _ROBOT_BIT, _OBJECT_BIT = 1, 2, 4
_FLOOR_CAPSULES = ('foot2_', 'foot6_')  # the long outer capsules: the sole's left and right edge
FOOT_FRICTION = 0.8
BODY_FRICTION = 0.6
_GEOM = mujoco.mjtGeom


def scene(
    objects: Sequence[ObjectSpec] = (),
    *,
    timestep: float = 0.005,
    self_collision: bool = True,
    feet: Literal['two', 'all'] = 'two',
    visual: bool = False,
    iterations: int = 10,
    ls_iterations: int = 20,
) -> mujoco.MjModel:
    """Return the compiled model of a G1 on a floor with objects.

    Actuators are position servos (``tau = kp (ctrl - q) - kd dq``, limited to the motor's effort) in the joint
    order of :mod:`humanx_description.robot`. ``feet='two'`` lets two of the seven capsules of each sole touch
    the floor, ``'all'`` every one. ``visual`` keeps the meshes for rendering. A key frame ``default`` holds
    the default pose. Raises :class:`UserError` for a missing robot model, an unreadable mesh or two objects of
    one name.
    """
    model = scene_spec(
        objects,
        timestep=timestep,
        self_collision=self_collision,
        feet=feet,
        visual=visual,
        iterations=iterations,
        ls_iterations=ls_iterations,
    ).compile()
    for obj in objects:
        if obj.rolling_rate > 0 and not obj.fixed:
            _set_rolling_damping(model, obj)
    return model


def scene_spec(
    objects: Sequence[ObjectSpec] = (),
    *,
    timestep: float = 0.005,
    self_collision: bool = True,
    feet: Literal['two', 'all'] = 'two',
    visual: bool = False,
    iterations: int = 10,
    ls_iterations: int = 20,
) -> mujoco.MjSpec:
    """Return the editable spec behind :func:`scene` (rolling damping is added after compilation)."""
    names = [obj.name for obj in objects]
    if len(set(names)) != len(names):
        raise UserError(f'objects: the names {names} are not different; expected one object per name.')
    spec = mujoco.MjSpec.from_file(str(g1_mjcf()))
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.iterations = iterations
    spec.option.ls_iterations = ls_iterations
    _add_floor(spec, visual)
    _set_robot_contacts(spec, self_collision, feet, visual)
    _add_motors(spec)
    spec.add_sensor(
        name='imu_quat',
        type=mujoco.mjtSensor.mjSENS_FRAMEQUAT,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname='imu_in_pelvis',
    )
    for obj in objects:
        _add_object(spec, obj, timestep)
    spec.add_key(name='default', qpos=default_qpos(objects))
    return spec


def object_scene(objects: Sequence[ObjectSpec], *, timestep: float = 0.001) -> mujoco.MjModel:
    """Return a model of the floor and the objects alone, with the contact model of :func:`scene`.

    ``qpos`` is 7 numbers per free object in the order given. Used to synthesise flights, bounces and rolling.
    """
    spec = mujoco.MjSpec()
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    _add_floor(spec, visual=False)
    for obj in objects:
        if obj.attached_to:
            continue
        _add_object(spec, obj, timestep)
    model = spec.compile()
    for obj in objects:
        if obj.rolling_rate > 0 and not obj.fixed:
            _set_rolling_damping(model, obj)
    return model


def default_qpos(objects: Sequence[ObjectSpec] = ()) -> np.ndarray:
    """Return qpos (36 + 7 per free object): the robot in its default pose, objects where their specs put them."""
    parts = [np.array([0, 0, robot.DEFAULT_ROOT_HEIGHT, 1, 0, 0, 0]), robot.DEFAULT_JOINT_POS]
    for obj in objects:
        if not obj.fixed:
            parts.append(np.array([*obj.pos, *obj.quat]))
    return np.concatenate(parts)


def _add_floor(spec: mujoco.MjSpec, visual: bool) -> None:
    floor = spec.worldbody.add_geom(name=FLOOR, type=_GEOM.mjGEOM_PLANE, size=[0, 0, 0.05])
    # Friction of a contact is the larger of the two geoms': a slippery floor leaves it to the robot's.
    floor.friction = [0.1, 0.005, 0.0001]
    floor.contype, floor.conaffinity = _FLOOR_BIT, _ROBOT_BIT
    if visual:
        spec.add_texture(
            name='grid',
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
            width=256,
            height=256,
            rgb1=[0.78, 0.80, 0.82],
            rgb2=[0.70, 0.73, 0.76],
        )
        spec.add_texture(
            name='sky',
            type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
            width=64,
            height=384,
            rgb1=[0.95, 0.96, 0.98],
            rgb2=[0.80, 0.84, 0.88],
        )
        material = spec.add_material(name='grid', texrepeat=[2, 2], texuniform=True, reflectance=0.05)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = 'grid'
        floor.material = 'grid'
        spec.worldbody.add_light(
            pos=[2, -2, 5],
            dir=[-0.3, 0.3, -1],
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=True,
        )
        spec.visual.headlight.ambient = [0.4, 0.4, 0.4]
        spec.visual.headlight.diffuse = [0.4, 0.4, 0.4]
        spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960


def _set_robot_contacts(spec: mujoco.MjSpec, self_collision: bool, feet: str, visual: bool) -> None:
    for geom in list(spec.geoms):
        name = geom.name or ''
        if name == FLOOR:
            continue
        if not name.endswith('_collision'):
            if visual:
                geom.contype = geom.conaffinity = 0
            else:
                spec.delete(geom)
            continue
        is_foot = '_foot' in name
        geom.contype = _ROBOT_BIT
        geom.conaffinity = _OBJECT_BIT | (_ROBOT_BIT if self_collision else 0)
        geom.condim = 3 if is_foot else 1
        geom.friction = [FOOT_FRICTION if is_foot else BODY_FRICTION, 0.005, 0.0001]
        if is_foot and feet == 'two' and not any(part in name for part in _FLOOR_CAPSULES):
            geom.contype, geom.conaffinity = 0, _OBJECT_BIT
        if visual:
            geom.rgba = [0, 0, 0, 0]
    if not visual:
        for mesh in list(spec.meshes):
            spec.delete(mesh)


def _add_motors(spec: mujoco.MjSpec) -> None:
    for index, name in enumerate(robot.JOINT_NAMES):
        spec.joint(name).armature = robot.ARMATURE[index]
        effort = robot.EFFORT_LIMIT[index]
        kp, kd = robot.KP[index], robot.KD[index]
        actuator = spec.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            forcelimited=True,
            forcerange=[-effort, effort],
            ctrllimited=False,
        )
        actuator.gainprm[0] = kp
        actuator.biasprm[:3] = [0.0, -kp, -kd]


def _add_object(spec: mujoco.MjSpec, obj: ObjectSpec, timestep: float) -> None:
    # A held tool (a racket) is part of the body that holds it.
    parent = spec.body(obj.attached_to) if obj.attached_to else spec.worldbody
    body = parent.add_body(name=obj.name, pos=list(obj.pos), quat=list(obj.quat))
    if not obj.fixed:
        body.add_freejoint(name=f'{obj.name}_joint')
    geoms = _object_geoms(spec, body, obj)
    on_robot = bounce_solref(obj.body_restitution, timestep)
    on_floor = bounce_solref(obj.restitution, timestep)
    for geom in geoms:
        geom.rgba = list(obj.rgba)
        geom.condim = 3
        geom.friction = [obj.friction, 0.005, 0.0001]
        geom.contype, geom.conaffinity = _OBJECT_BIT, _OBJECT_BIT
        geom.solref, geom.solimp = list(on_robot), list(OBJECT_SOLIMP)
        if not obj.fixed:
            # An explicit pair, so that the floor's bounce does not make the hands bouncy too.
            spec.add_pair(
                geomname1=geom.name,
                geomname2=FLOOR,
                condim=3,
                solref=list(on_floor),
                solimp=list(OBJECT_SOLIMP),
                friction=[obj.friction, obj.friction, 0.005, 0.0001, 0.0001],
            )


def _object_geoms(spec: mujoco.MjSpec, body: mujoco.MjsBody, obj: ObjectSpec) -> list:
    if obj.shape == 'sphere':
        # Balls are hollow: their mass sits in the shell.
        geom = body.add_geom(name=obj.name, type=_GEOM.mjGEOM_SPHERE, size=[obj.size[0], 0, 0], mass=obj.mass)
        geom.typeinertia = mujoco.mjtGeomInertia.mjINERTIA_SHELL
        return [geom]
    if obj.shape == 'box':
        half = [0.5 * s for s in obj.size]
        return [body.add_geom(name=obj.name, type=_GEOM.mjGEOM_BOX, size=half, mass=obj.mass)]
    if obj.shape == 'cylinder':
        size = [obj.size[0], 0.5 * obj.size[1], 0]
        return [body.add_geom(name=obj.name, type=_GEOM.mjGEOM_CYLINDER, size=size, mass=obj.mass)]
    if obj.shape == 'shuttlecock':
        length, radius = obj.size
        cork = 0.0125
        skirt_length = length - 2 * cork
        # The skirt is a ring of feathers; a capsule of half its radius along x stands for it in contact.
        return [
            body.add_geom(
                name=obj.name,
                type=_GEOM.mjGEOM_SPHERE,
                size=[cork, 0, 0],
                pos=[0.5 * length - cork, 0, 0],
                mass=0.6 * obj.mass,
            ),
            body.add_geom(
                name=f'{obj.name}_skirt',
                type=_GEOM.mjGEOM_CAPSULE,
                mass=0.4 * obj.mass,
                size=[0.5 * radius, max(0.5 * skirt_length - 0.5 * radius, 1e-3), 0],
                pos=[-0.5 * cork, 0, 0],
                quat=[0.70710678, 0, 0.70710678, 0],
            ),
        ]
    return [_mesh_geom(spec, body, obj)]


def _mesh_geom(spec: mujoco.MjSpec, body: mujoco.MjsBody, obj: ObjectSpec):
    import trimesh

    assert obj.mesh is not None
    try:
        mesh: Any = trimesh.load(obj.mesh, force='mesh')
    except Exception as error:  # trimesh raises whatever its many readers raise
        raise UserError(f'{obj.mesh}: cannot be read as a mesh ({error}); expected STL, OBJ, PLY or GLB.') from None
    if len(mesh.faces) == 0:
        raise UserError(f'{obj.mesh}: holds no faces; expected a triangle mesh.')
    hull = mesh.convex_hull
    extent = float(np.max(hull.extents)) * obj.size[0]
    if extent > 5.0:
        raise UserError(
            f'{obj.mesh}: measures {extent:.1f} m after scaling by {obj.size[0]}; expected metres '
            '(a file in millimetres needs the scale 0.001).'
        )
    vertices = (hull.vertices - hull.center_mass) * obj.size[0]
    spec.add_mesh(
        name=obj.name,
        uservert=vertices.astype(np.float32).ravel(),
        userface=hull.faces.astype(np.int32).ravel(),
    )
    return body.add_geom(name=obj.name, type=_GEOM.mjGEOM_MESH, meshname=obj.name, mass=obj.mass)


def _set_rolling_damping(model: mujoco.MjModel, obj: ObjectSpec) -> None:
    """Damp the object's spin so that, rolling without slip, its speed decays at ``rolling_rate``.

    Rolling: (m + I/r^2) dv/dt = -d v / r^2, so d = rate (m r^2 + I).
    """
    body = model.body(obj.name).id
    dof = model.body_dofadr[body]
    radius = obj.bounding_radius()
    inertia = float(model.body_inertia[body].mean())
    model.dof_damping[dof + 3 : dof + 6] = obj.rolling_rate * (obj.mass * radius**2 + inertia)


def drag_table(model: mujoco.MjModel, objects: Sequence[ObjectSpec]) -> list[tuple[int, float]]:
    """Return ``(body id, k)`` for every object with drag; the force is ``-k |v| v`` (k in kg/m)."""
    return [(model.body(o.name).id, o.mass / o.drag_length) for o in objects if o.drag_length > 0 and not o.fixed]


def apply_drag(model: mujoco.MjModel, data: mujoco.MjData, table: Sequence[tuple[int, float]]) -> None:
    """Set ``xfrc_applied`` of the bodies in ``table`` to quadratic drag; call before every ``mj_step``."""
    for body, coefficient in table:
        dof = model.body_dofadr[body]
        velocity = data.qvel[dof : dof + 3]
        data.xfrc_applied[body, :3] = -coefficient * float(np.linalg.norm(velocity)) * velocity
