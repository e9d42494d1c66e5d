"""The environment: references, resets, observations equal to deployment's, randomisation, terminations."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.restitution import bounce_solref
from humanx_policy import observation as ob
from humanx_training.xmimic import config as cfg
from humanx_training.xmimic import quaternion as quat
from humanx_training.xmimic.clip_set import ClipSet, load_clips, make_clip_set
from humanx_training.xmimic.env import REASONS, HumanXEnv, tracked_bodies
from humanx_training.xmimic.frame_loss import ProximityLoss
from humanx_training.xmimic.phase_sampler import PhaseSampler

sys.path.insert(0, str(Path(__file__).parent))
from clips_for_tests import standing

QUIET = cfg.EnvConfig(
    num_envs=4,
    init=cfg.InitConfig(disturb=False),
    randomisation=cfg.RandomisationConfig(enabled=False),
    frame_loss=cfg.FrameLossConfig(enabled=False),
)


def _env(config: cfg.EnvConfig = QUIET, mode: str = 'mocap', **options: object) -> HumanXEnv:
    clip = standing(ball=mode == 'mocap')
    return HumanXEnv(make_clip_set([clip]), config, mode=mode, **options)  # type: ignore[arg-type]


def _zero(env: HumanXEnv) -> torch.Tensor:
    return torch.zeros(env.num_envs, 29)


def test_clip_set_keeps_clips_apart_and_matches_kinematics() -> None:
    clips = [standing(80), standing(50, sway=0.3)]
    s = ClipSet(clips)
    assert s.lengths.tolist() == [80, 50]
    assert s.starts.tolist() == [0, 80]
    assert s.ahead(torch.tensor([78, 79, 128]), 5).tolist() == [79, 79, 129]
    pelvis = s.body_pos[:, 0]
    np.testing.assert_allclose(pelvis, s.qpos[:, :3], atol=1e-6)
    # The velocity of the hand is the derivative of its position.
    hand = robot.KEY_BODIES.index('left_wrist_yaw_link')
    numeric = (s.body_pos[100, hand] - s.body_pos[98, hand]) / 0.02
    np.testing.assert_allclose(s.body_vel[99, hand, :3], numeric, atol=0.02)
    assert float(numeric.norm()) > 0.1


def test_clips_of_different_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='expected one object'):
        make_clip_set([standing(), standing(ball=False)])
    with pytest.raises(UserError, match='holds no'):
        load_clips([tmp_path])


def test_an_undisturbed_reset_is_the_reference_itself() -> None:
    env = _env()
    frames = torch.tensor([0, 10, 20, 30])
    env.reset(torch.arange(4), frames)
    torch.testing.assert_close(env.sim.qpos.float(), env.clips.qpos[frames])
    assert env.canonical(_zero(env)).abs().max() < 0.5
    state = env.snapshot()
    errors = dict(zip(env.rewards.terms, env.rewards.errors(state).unbind(1), strict=True))
    assert float(errors['upper_body_pos'].max()) < 1e-10


def test_a_perfect_state_earns_the_full_reward() -> None:
    env = _env()
    env.reset(torch.arange(4), torch.tensor([0, 5, 10, 15]))
    s = env.snapshot()
    s.contact = s.ref_contact
    reward, log = env.rewards(s, _zero(env), _zero(env), torch.zeros(4, dtype=torch.bool), env.dt, 0)
    weights = sum(term.weight for term in env.rewards.terms.values())
    positive = sum(float(v) for k, v in log.items() if k.startswith('reward/'))
    assert positive == pytest.approx(weights, rel=1e-4)
    assert set(env.rewards.terms) >= {'object_pos', 'relative_pos', 'contact', 'feet_pos'}
    assert float(reward.mean()) < weights * env.dt + 1e-6


def test_losing_the_object_costs_its_terms_only() -> None:
    env = _env()
    env.reset(torch.arange(4), torch.tensor([0, 5, 10, 15]))
    s = env.snapshot()
    s.qpos = s.qpos.clone()
    s.qpos[:, 36] += 1.0
    _, log = env.rewards(s, _zero(env), _zero(env), torch.zeros(4, dtype=torch.bool), env.dt, 0)
    assert float(log['reward/object_pos']) < 1e-6
    assert float(log['reward/relative_pos']) < 1e-6
    assert float(log['reward/feet_pos']) == pytest.approx(env.rewards.terms['feet_pos'].weight, rel=1e-4)


def test_each_term_is_the_mean_over_its_own_bodies() -> None:
    """Every term with a weight, against its definition over the bodies of its name; no two share a column."""
    every = {f.name: cfg.Term(1.0) for f in dataclasses.fields(QUIET.reward) if isinstance(f.default, cfg.Term)}
    env = _env(dataclasses.replace(QUIET, reward=dataclasses.replace(QUIET.reward, **every)))
    env.reset(torch.arange(4), torch.tensor([0, 5, 10, 15]))
    s = env.snapshot()
    generator = torch.Generator().manual_seed(0)
    for name in ('qpos', 'qvel', 'body_pos', 'body_quat', 'body_vel'):
        value = getattr(s, name)
        setattr(s, name, value + 0.1 * torch.rand(value.shape, generator=generator))
    s.contact = ~s.ref_contact
    got = dict(zip(env.rewards.terms, env.rewards.errors(s).unbind(1), strict=True))
    names = list(env.clips.bodies)

    def of(bodies: tuple[str, ...]) -> list[int]:
        return [names.index(b) for b in bodies]

    near = ('pelvis', 'left_knee_link', 'right_knee_link')
    far = ('torso_link', 'left_shoulder_roll_link', 'left_elbow_link', 'right_shoulder_roll_link', 'right_elbow_link')
    touching = of(env.clips.contact_bodies)
    distance = (s.body_pos - s.ref_body_pos).square().sum(-1)
    to_object = s.qpos[:, None, 36:39] - s.body_pos
    relative = (to_object - (s.ref_qpos[:, None, 36:39] - s.ref_body_pos)).square().sum(-1)
    turned = quat.angle(s.body_quat, s.ref_body_quat).square()
    change = (s.body_vel - s.ref_body_vel).square()
    wanted = {
        'upper_body_pos': distance[:, of(far)],
        'lower_body_pos': distance[:, of(near)],
        'hands_pos': distance[:, of(robot.HAND_BODIES)],
        'feet_pos': distance[:, of(robot.FOOT_BODIES)],
        'body_rot': turned[:, : len(robot.KEY_BODIES)],
        'body_lin_vel': change[:, : len(robot.KEY_BODIES), :3].mean(-1),
        'body_ang_vel': change[:, : len(robot.KEY_BODIES), 3:].mean(-1),
        'joint_pos': (s.qpos - s.ref_qpos)[:, 7:36].square(),
        'joint_vel': (s.qvel - s.ref_qvel)[:, 6:35].square(),
        'object_pos': (s.qpos - s.ref_qpos)[:, 36:39].square().sum(-1, keepdim=True),
        'object_rot': quat.angle(s.qpos[:, 39:43], s.ref_qpos[:, 39:43]).square()[:, None],
        'object_vel': (s.qvel - s.ref_qvel)[:, 35:38].square(),
        'relative_pos': relative[:, [k for k in range(len(robot.KEY_BODIES)) if k not in touching]],
        'hands_relative_pos': relative[:, touching],
        'contact': torch.ones(4, len(touching)),
    }
    assert set(got) == {*wanted, 'relative_rot'}
    for name, values in wanted.items():
        torch.testing.assert_close(got[name], values.mean(-1), msg=lambda text, name=name: f'{name}: {text}')


def test_product_reward_is_the_product_of_its_groups() -> None:
    config = dataclasses.replace(QUIET, reward=dataclasses.replace(QUIET.reward, combine='product'))
    env = _env(config)
    env.reset(torch.arange(4), torch.tensor([0, 5, 10, 15]))
    s = env.snapshot()
    s.qpos = s.qpos + 0.01
    none = torch.zeros(4, dtype=torch.bool)
    weights = {n: t.weight for n, t in env.rewards.terms.items()}
    errors = dict(zip(weights, env.rewards.errors(s).unbind(1), strict=True))
    wanted = torch.ones(4)
    for name, weight in weights.items():
        wanted = wanted * torch.exp(-weight * errors[name])
    for name in ('torque', 'action_rate', 'joint_pos_limit', 'feet_orientation', 'feet_slip', 'feet_heading', 'waist',
                 'hip_yaw', 'joint_vel_limit', 'torque_limit'):
        env.rewards.config = dataclasses.replace(env.rewards.config, **{name: 0.0})
    reward, _ = env.rewards(s, _zero(env), _zero(env), none, 1.0, 0)
    torch.testing.assert_close(reward, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('mode', ['nep', 'mocap'])
def test_training_and_deployment_see_equal_vectors(mode: str) -> None:
    """The environment's policy group equals humanx_policy's controller on the same states, frame loss included."""
    from humanx_policy.controller import ObjectsSample, PolicyController, RobotSample
    from humanx_policy.metadata import PolicyMetadata

    config = dataclasses.replace(QUIET, residual=False, frame_loss=cfg.FrameLossConfig(p_far=0.3, far_frames=4))
    env = _env(config, mode)
    layout = env.layout
    roles = ('ball',) if mode == 'mocap' else ()
    generator = torch.Generator().manual_seed(3)
    actions = 0.2 * torch.randn(30, 29, generator=generator)

    class Runtime:
        def __init__(self) -> None:
            self.metadata = PolicyMetadata('x', mode, layout, roles)  # type: ignore[arg-type]
            self.layout = layout
            self.observation = np.zeros((1, layout.size), np.float32)
            self.tick = 0

        def act(self) -> np.ndarray:
            self.tick += 1
            return actions[self.tick - 1 : self.tick].numpy()

    runtime = Runtime()
    controller = PolicyController(runtime)  # type: ignore[arg-type]
    env.reset(torch.arange(4), torch.zeros(4, dtype=torch.long))
    env.action[:] = 0.0  # deployment begins with no last action
    obs = env.observe()
    lost = 0
    for tick in range(30):
        q, v = env.sim.qpos[0].numpy(), env.sim.qvel[0].numpy()
        objects = None
        if mode == 'mocap':
            seen = bool(env.tracked[0])
            lost += not seen
            objects = ObjectsSample(q[:3], q[3:7], True, q[None, 36:39], np.array([seen]))
        controller.step(RobotSample(v[3:6], q[3:7], q[7:36], v[6:35]), objects)
        np.testing.assert_allclose(obs['policy'][0].numpy(), runtime.observation[0], atol=2e-5)
        obs, *_ = env.step(actions[tick].expand(4, 29))
    if mode == 'mocap':
        assert 3 < lost < 27


def test_residual_and_canonical_actions_are_the_same_targets() -> None:
    env = _env()
    env.reset(torch.arange(4), torch.tensor([0, 5, 10, 15]))
    raw = 0.1 * torch.randn(4, 29)
    canonical = env.canonical(raw)
    target = ob.joint_targets(canonical, env.default_joints, env.action_scale)
    reference = env.clips.qpos[env.frame + 1][:, 7:36]
    torch.testing.assert_close(target, reference + env.action_scale * raw)


def test_episodes_end_at_the_clips_end_as_time_outs_and_begin_anew() -> None:
    env = _env()
    env.reset(torch.arange(4), torch.full((4,), 117))
    _, _, first, extras = env.step(_zero(env))
    assert not first.any()
    _, _, done, extras = env.step(_zero(env))
    assert done.all()
    assert extras['time_outs'].tolist() == [1.0] * 4
    assert not extras['failed'].any()
    assert (env.episode_length_buf == 0).all()


def test_a_fallen_robot_fails_with_its_reason() -> None:
    env = _env()
    env.reset(torch.arange(4), torch.tensor([0, 5, 10, 15]))
    qpos = env.sim.qpos.clone()
    qpos[2, 3:7] = torch.tensor([0.7071, 0.0, 0.7071, 0.0], dtype=qpos.dtype)
    env.sim.set_state(qpos, torch.zeros_like(env.sim.qvel))
    _, _, done, extras = env.step(_zero(env))
    assert done.tolist() == [False, False, True, False]
    assert float(extras['log']['end/orientation']) == 0.25
    assert extras['time_outs'].sum() == 0
    assert set(REASONS) == {k[4:] for k in extras['log'] if k.startswith('end/')}


def test_equal_seeds_give_equal_futures_and_other_seeds_do_not() -> None:
    config = cfg.EnvConfig(num_envs=8)
    env = _env(config)
    runs = []
    for seed in (5, 5, 6):
        env.seed(seed)
        env.observe()
        for _ in range(12):
            obs, *_ = env.step(torch.zeros(8, 29))
        runs.append(obs['policy'].clone())
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert not torch.equal(runs[0], runs[2])


def test_randomisation_stays_in_its_ranges_and_reaches_the_model() -> None:
    config = cfg.EnvConfig(num_envs=64)
    env = _env(config)
    sim, c, model = env.sim, config.randomisation, env.sim.model
    torso = model.body('torso_link').id
    mass = sim.parameter('body_mass')[:, torso] / model.body_mass[torso]
    assert 1 - c.link_mass <= float(mass.min()) < 0.95
    assert 1.05 < float(mass.max()) <= 1 + c.link_mass
    foot = next(g for g in range(model.ngeom) if '_foot' in model.geom(g).name)
    friction = sim.parameter('geom_friction')[:, foot, 0]
    assert c.friction[0] <= float(friction.min()) < 0.7
    assert 1.0 < float(friction.max()) <= c.friction[1]
    kp = sim.parameter('actuator_gainprm')[:, :, 0] / torch.tensor(robot.KP.copy())
    assert float((kp - 1).abs().max()) <= c.kp + 1e-9
    assert float(kp.std()) > 0.02
    torch.testing.assert_close(sim.parameter('actuator_biasprm')[:, :, 1], -sim.parameter('actuator_gainprm')[:, :, 0])
    ball = model.body('ball').id
    ball_mass = sim.parameter('body_mass')[:, ball] / model.body_mass[ball]
    assert 1 - c.object_mass <= float(ball_mass.min()) < 0.9
    size = sim.parameter('geom_size')[:, model.geom('ball').id, 0] / 0.11
    assert float((size - 1).abs().max()) <= c.object_size + 1e-9
    # A shell's inertia grows with mass and the square of its radius.
    inertia = sim.parameter('body_inertia')[:, ball, 0] / model.body_inertia[ball, 0]
    torch.testing.assert_close(inertia, ball_mass * size.square(), rtol=1e-6, atol=0)
    assert set(sim.delay.tolist()) == {0, 1, 2}


def test_every_clip_brings_its_own_object() -> None:
    clips = make_clip_set([standing(60), standing(60, radius=0.09)])
    env = HumanXEnv(clips, QUIET)
    env.reset(torch.arange(4), torch.tensor([0, 70, 0, 70]))
    radius = env.sim.parameter('geom_size')[:, env.sim.model.geom('ball').id, 0]
    torch.testing.assert_close(radius, torch.tensor([0.11, 0.09, 0.11, 0.09], dtype=radius.dtype))


def test_pushes_and_forces_come_at_their_intervals() -> None:
    r = cfg.RandomisationConfig(push_interval=(0.05, 0.1), force_interval=(0.05, 0.1))
    env = _env(dataclasses.replace(QUIET, num_envs=16, randomisation=r))
    before = env.sim.xfrc.clone()
    pushed = 0
    for _ in range(12):
        speed = env.sim.qvel[:, :2].clone()
        env.disturbances.apply(torch.zeros(16, dtype=torch.bool))
        pushed += int(((env.sim.qvel[:, :2] - speed).abs().amax(-1) > 0).sum())
    assert 16 <= pushed <= 16 * 3
    force = env.sim.xfrc[:, 0, :3]
    assert not torch.equal(before[:, 0, :3], force)
    assert float(force.abs().max()) <= r.force


def test_sustained_forces_hold_between_changes_and_are_larger_for_a_standing_reference() -> None:
    r = cfg.RandomisationConfig(push_speed=0.0, force_interval=(0.03, 0.03))
    env = _env(dataclasses.replace(QUIET, num_envs=400, randomisation=r))
    standing_still = torch.arange(400) < 200
    changes = 0
    for _ in range(9):
        before = env.sim.xfrc[:, 0, :3].clone()
        env.disturbances.apply(standing_still)
        changes += int((env.sim.xfrc[:, 0, :3] != before).any(-1).sum())
    assert changes == 3 * 400  # every third step; in between the force stays
    force = env.sim.xfrc[:, 0, :3].abs()
    assert 45.0 < float(force[:200].max()) <= r.standing_force == 50.0
    assert 18.0 < float(force[200:].max()) <= r.force == 20.0
    assert float(env.sim.xfrc[:, 0, 3:].abs().max()) == 0.0
    env.reset(torch.arange(3))
    assert float(env.sim.xfrc[:3].abs().max()) == 0.0


def test_every_width_of_the_randomisation_reaches_its_field() -> None:
    """Centres of mass, gains' damping, the object's friction, bounce and rolling: within the width, and near it."""
    clips = make_clip_set([standing()])
    c = cfg.RandomisationConfig()
    env = HumanXEnv(clips, cfg.EnvConfig(num_envs=256))
    sim, model = env.sim, env.sim.model
    torso, ball = model.body('torso_link').id, model.body('ball').id
    shift = (sim.parameter('body_ipos') - torch.tensor(np.array(model.body_ipos))).abs()
    assert 0.9 * c.torso_com < float(shift[:, torso].max()) <= c.torso_com
    links = [b for b in range(1, model.nbody) if b not in (torso, ball)]
    assert 0.9 * c.com < float(shift[:, links].max()) <= c.com
    kd = -sim.parameter('actuator_biasprm')[:, :, 2] / torch.tensor(robot.KD.copy())
    assert 0.9 * c.kd < float((kd - 1).abs().max()) <= c.kd + 1e-9
    geom = model.geom('ball').id
    friction = sim.parameter('geom_friction')[:, geom, 0] / clips.objects[0].friction
    assert 0.9 * c.object_friction < float((friction - 1).abs().max()) <= c.object_friction + 1e-9
    pair = next(p for p in range(model.npair) if geom in (model.pair_geom1[p], model.pair_geom2[p]))
    bounce = sim.parameter('pair_solref')[:, pair]
    softest, hardest = (bounce_solref(clips.objects[0].restitution + s * c.restitution, sim.timestep) for s in (-1, 1))
    damping = sorted((softest[1], hardest[1]))
    assert damping[0] - 1.0 <= float(bounce[:, 1].min()) < float(bounce[:, 1].max()) <= damping[1] + 1.0
    assert float(bounce[:, 1].std()) > 0.1 * (damping[1] - damping[0])
    assert float(sim.parameter('dof_damping')[:, model.body_dofadr[ball] + 3].std()) > 0.0


def test_failures_are_counted_where_they_happen() -> None:
    env = _env(dataclasses.replace(QUIET, init=cfg.InitConfig(disturb=False, adaptive=2.0)))
    frames = torch.tensor([0, 30, 60, 60])
    env.reset(torch.arange(4), frames)
    qpos = env.sim.qpos.clone()
    qpos[2:, 3:7] = torch.tensor([0.7071, 0.0, 0.7071, 0.0], dtype=qpos.dtype)
    env.sim.set_state(qpos, torch.zeros_like(env.sim.qvel))
    before = env.sampler.probabilities().clone()
    env.step(_zero(env))
    where = int(env.sampler._bin_of_frame[61])
    assert env.sampler.failures.nonzero().flatten().tolist() == [where]
    assert float(env.sampler.failures[where]) == 2.0
    assert float(env.sampler.probabilities()[where]) > float(before[where])


def test_noise_is_uniform_with_the_configured_width() -> None:
    r = cfg.RandomisationConfig(push_speed=0.0, force=0.0, standing_force=0.0)
    env = _env(cfg.EnvConfig(num_envs=256, init=cfg.InitConfig(disturb=False), randomisation=r,
                             frame_loss=cfg.FrameLossConfig(enabled=False)))  # fmt: skip
    env.reset(torch.arange(256), torch.zeros(256, dtype=torch.long))
    terms = env._measure()
    gyro = terms['base_ang_vel'] - env.sim.qvel[:, 3:6].float()
    assert 0.28 < float(gyro.abs().max()) <= 0.3
    assert float(gyro.std()) == pytest.approx(0.3 / 3**0.5, rel=0.1)
    pd = terms['pd_error'] + terms['joint_pos']  # the sensor's error cancels
    torch.testing.assert_close(pd, env.action * env.action_scale, atol=1e-5, rtol=0)


def test_frame_loss_is_rare_far_from_the_bodies_and_frequent_near() -> None:
    generator = torch.Generator().manual_seed(0)
    n, steps = 200, 300
    shares = {}
    for name, gap in (('far', 1.0), ('near', 0.0)):
        loss = ProximityLoss(n, torch.device('cpu'), generator)
        seen = torch.stack([loss.step(torch.full((n,), gap)) for _ in range(steps)])
        shares[name] = 1.0 - float(seen.float().mean())
    # Expected: p m / (1 + p (m - 1) ...) with mean lengths 1.5 and 5.5.
    assert shares['far'] == pytest.approx(1.5 / (1.5 + 1 / 0.02 - 1), abs=0.01)
    assert shares['near'] == pytest.approx(5.5 / (5.5 + 1 / 0.2 - 1), abs=0.04)


def test_adaptive_sampling_prefers_phases_before_failures() -> None:
    generator = torch.Generator().manual_seed(0)
    sampler = PhaseSampler(torch.tensor([0]), torch.tensor([400]), weight=5.0, generator=generator)
    uniform = sampler.probabilities()
    sampler.record(torch.full((50,), 210))
    now = sampler.probabilities()
    bin_of = int(sampler._bin_of_frame[210])
    assert float(now[bin_of]) > 2 * float(uniform[bin_of])
    assert float(now[bin_of - 1]) > 2 * float(uniform[bin_of - 1])
    assert float(now[bin_of + 1]) < float(uniform[bin_of + 1])
    frames = sampler.sample(2000)
    assert int(frames.min()) >= 0
    assert int(frames.max()) < 380
    for _ in range(200):
        sampler.forget()
    share = sampler.probabilities()
    assert float(sampler.failures.max()) < 0.01
    assert share.shape == uniform.shape


def test_mocap_without_an_object_is_refused() -> None:
    with pytest.raises(UserError, match='have no object'):
        HumanXEnv(make_clip_set([standing(ball=False)]), QUIET, mode='mocap')


def test_tracked_bodies_adds_what_touches() -> None:
    assert tracked_bodies(('left_wrist_pitch_link', 'pelvis')) == (*robot.KEY_BODIES, 'left_wrist_pitch_link')
