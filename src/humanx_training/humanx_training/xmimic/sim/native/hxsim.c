/* A batched MuJoCo stepper: many environments of one model, stepped by a persistent pool of threads.
 *
 * Every thread owns one mjModel and one mjData and loads an environment's state into them, so that memory does not grow
 * with the number of environments and the working set stays in the cache. Per-environment parameters are arrays that
 * replace fields of the thread's model before it steps ("overrides"). All buffers belong to the caller.
 */
#include <mujoco/mujoco.h>
#include <mujoco/mjxmacro.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HX_MAX_OVERRIDES 64
#define HX_CHUNK 4 /* environments a thread takes at a time */
#define HX_PAST 4  /* commands kept for the delay; `PAST_COMMANDS` in base.py */

/* Mirrored by `_Buffers` in mujoco_native.py: keep the order. */
typedef struct {
  int32_t num_envs, num_bodies, num_pairs, num_force_bodies, num_drag_bodies, reserved;
  const int32_t *body_ids, *force_ids, *drag_ids;
  const uint64_t *geom_mask;  /* (ngeom) bit set of the contact groups a geom belongs to */
  const uint64_t *pair_mask;  /* (num_pairs, 2) one bit each */
  double *qpos, *qvel, *warmstart, *time; /* (N, nq) (N, nv) (N, nv) (N) */
  double *ctrl, *ctrl_past;               /* (N, nu) wanted; (N, HX_PAST, nu) those of the steps before, newest first */
  int32_t *delay;                         /* (N) substeps before `ctrl` takes effect */
  double *xfrc;                           /* (N, num_force_bodies, 6) force, torque in the world, at the centre of mass */
  double *drag;                           /* (N, num_drag_bodies) F = -drag |v| v, N s^2/m^2 */
  double *xpos, *xquat, *xvel;            /* (N, B, 3) (N, B, 4) (N, B, 6) linear then angular, world, at the origin */
  double *actuator_force;                 /* (N, nu) of the last substep */
  uint8_t *contact;                       /* (N, P) touched in any substep */
  double *contact_force;                  /* (N, P) summed normal force of the last substep, N */
  uint8_t *finite;                        /* (N) 0: the physics diverged; not stepped again until its state is set */
} HxBuffers;

typedef struct {
  size_t offset, bytes;
  char *data; /* (N, bytes) */
} HxOverride;

enum { HX_STEP, HX_FORWARD, HX_SET_CONST };

typedef struct {
  HxBuffers b;
  int threads;
  mjModel **models;
  mjData **datas;
  int num_overrides;
  HxOverride overrides[HX_MAX_OVERRIDES];
  /* the current job */
  int kind, substeps, count;
  const int32_t *ids; /* NULL: all */
  atomic_int next, running;
  int generation, stop;
  pthread_mutex_t lock;
  pthread_cond_t start, done;
  pthread_t *handles;
} HxPool;

typedef struct {
  HxPool *pool;
  int index;
} HxWorker;

/* Find an array field of mjModel: its offset in the struct, element size and count. Returns 1 when found. */
static int find_field(const mjModel *m, const char *name, size_t *offset, size_t *size, size_t *count) {
  MJMODEL_POINTERS_PREAMBLE(m)
  (void)nuser_body, (void)nuser_jnt, (void)nuser_geom, (void)nuser_site, (void)nuser_cam, (void)nuser_tendon;
  (void)nuser_actuator, (void)nuser_sensor, (void)nq, (void)nv, (void)na, (void)nu, (void)nmocap;
#define X(type, field, nr, nc)                 \
  if (!strcmp(name, #field)) {                 \
    *offset = offsetof(mjModel, field);        \
    *size = sizeof(type);                      \
    *count = (size_t)(m->nr) * (size_t)(nc);   \
    return 1;                                  \
  }
  MJMODEL_POINTERS
#undef X
  return 0;
}

static char *field_of(const mjModel *m, size_t offset) { return *(char **)((char *)m + offset); }

static void load_overrides(const HxPool *p, mjModel *m, int env) {
  for (int k = 0; k < p->num_overrides; k++) {
    const HxOverride *o = &p->overrides[k];
    memcpy(field_of(m, o->offset), o->data + (size_t)env * o->bytes, o->bytes);
  }
}

static void mark_contacts(const HxBuffers *b, const mjModel *m, const mjData *d, int env, int with_force) {
  const int P = b->num_pairs;
  if (!P) return;
  uint8_t *flag = b->contact + (size_t)env * P;
  double *force = b->contact_force + (size_t)env * P;
  if (with_force) memset(force, 0, P * sizeof(double));
  for (int c = 0; c < d->ncon; c++) {
    const mjContact *con = d->contact + c;
    if (con->geom[0] < 0 || con->geom[1] < 0 || con->dist > 0) continue;
    const uint64_t one = b->geom_mask[con->geom[0]], two = b->geom_mask[con->geom[1]];
    if (!one || !two) continue;
    for (int k = 0; k < P; k++) {
      const uint64_t u = b->pair_mask[2 * k], v = b->pair_mask[2 * k + 1];
      if (!((one & u && two & v) || (one & v && two & u))) continue;
      flag[k] = 1;
      if (with_force && con->efc_address >= 0) {
        mjtNum wrench[6];
        mj_contactForce(m, d, c, wrench);
        force[k] += wrench[0];
      }
    }
  }
}

static void store(const HxBuffers *b, const mjModel *m, const mjData *d, int env) {
  const int nq = m->nq, nv = m->nv, nu = m->nu, B = b->num_bodies;
  memcpy(b->qpos + (size_t)env * nq, d->qpos, nq * sizeof(double));
  memcpy(b->qvel + (size_t)env * nv, d->qvel, nv * sizeof(double));
  memcpy(b->warmstart + (size_t)env * nv, d->qacc_warmstart, nv * sizeof(double));
  memcpy(b->actuator_force + (size_t)env * nu, d->actuator_force, nu * sizeof(double));
  b->time[env] = d->time;
  for (int k = 0; k < B; k++) {
    const int id = b->body_ids[k];
    double *vel = b->xvel + ((size_t)env * B + k) * 6;
    memcpy(b->xpos + ((size_t)env * B + k) * 3, d->xpos + 3 * id, 3 * sizeof(double));
    memcpy(b->xquat + ((size_t)env * B + k) * 4, d->xquat + 4 * id, 4 * sizeof(double));
    /* cvel is (angular, linear) at the subtree's centre of mass; move it to the body's origin. */
    const mjtNum *cvel = d->cvel + 6 * id, *com = d->subtree_com + 3 * m->body_rootid[id];
    const mjtNum rx = d->xpos[3 * id] - com[0], ry = d->xpos[3 * id + 1] - com[1], rz = d->xpos[3 * id + 2] - com[2];
    vel[0] = cvel[3] + cvel[1] * rz - cvel[2] * ry;
    vel[1] = cvel[4] + cvel[2] * rx - cvel[0] * rz;
    vel[2] = cvel[5] + cvel[0] * ry - cvel[1] * rx;
    memcpy(vel + 3, cvel, 3 * sizeof(double));
  }
}

static void load(const HxBuffers *b, const mjModel *m, mjData *d, int env) {
  memcpy(d->qpos, b->qpos + (size_t)env * m->nq, m->nq * sizeof(double));
  memcpy(d->qvel, b->qvel + (size_t)env * m->nv, m->nv * sizeof(double));
  memcpy(d->qacc_warmstart, b->warmstart + (size_t)env * m->nv, m->nv * sizeof(double));
  d->time = b->time[env];
}

static int diverged(mjData *d) {
  return d->warning[mjWARN_BADQPOS].number || d->warning[mjWARN_BADQVEL].number ||
         d->warning[mjWARN_BADQACC].number || d->warning[mjWARN_BADCTRL].number;
}

static void step_one(const HxPool *p, mjModel *m, mjData *d, int env) {
  const HxBuffers *b = &p->b;
  if (!b->finite[env]) return;
  const int nu = m->nu;
  double *past = b->ctrl_past + (size_t)env * HX_PAST * nu;
  const double *wanted = b->ctrl + (size_t)env * nu;
  load_overrides(p, m, env);
  load(b, m, d, env);
  if (b->num_pairs) memset(b->contact + (size_t)env * b->num_pairs, 0, b->num_pairs);
  for (int w = 0; w < mjNWARNING; w++) d->warning[w].number = 0;
  for (int s = 0; s < p->substeps; s++) {
    /* Which step's command has arrived by this substep: 0 this one's, 1 that of the step before, ... */
    int age = s < b->delay[env] ? (b->delay[env] - s + p->substeps - 1) / p->substeps : 0;
    if (age > HX_PAST) age = HX_PAST;
    memcpy(d->ctrl, age ? past + (size_t)(age - 1) * nu : wanted, nu * sizeof(double));
    for (int k = 0; k < b->num_drag_bodies; k++) memset(d->xfrc_applied + 6 * b->drag_ids[k], 0, 6 * sizeof(double));
    for (int k = 0; k < b->num_force_bodies; k++)
      memcpy(d->xfrc_applied + 6 * b->force_ids[k], b->xfrc + ((size_t)env * b->num_force_bodies + k) * 6,
             6 * sizeof(double));
    for (int k = 0; k < b->num_drag_bodies; k++) {
      /* A drag body hangs on a free joint, whose first three velocities are linear in the world. */
      const mjtNum *v = d->qvel + m->body_dofadr[b->drag_ids[k]];
      const double f = -b->drag[(size_t)env * b->num_drag_bodies + k] * sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
      for (int j = 0; j < 3; j++) d->xfrc_applied[6 * b->drag_ids[k] + j] += f * v[j];
    }
    mj_step(m, d);
    mark_contacts(b, m, d, env, s == p->substeps - 1);
    if (diverged(d)) {
      /* MuJoCo has reset the data: keep the state from before the step, which caused it. */
      b->finite[env] = 0;
      return;
    }
  }
  memmove(past + nu, past, (HX_PAST - 1) * nu * sizeof(double));
  memcpy(past, wanted, nu * sizeof(double));
  /* mj_step leaves positions one integration behind. */
  mj_kinematics(m, d);
  mj_comPos(m, d);
  mj_comVel(m, d);
  store(b, m, d, env);
}

static void forward_one(const HxPool *p, mjModel *m, mjData *d, int env) {
  const HxBuffers *b = &p->b;
  load_overrides(p, m, env);
  load(b, m, d, env);
  if (b->num_pairs) memset(b->contact + (size_t)env * b->num_pairs, 0, b->num_pairs);
  for (int k = 0; k < m->nq; k++)
    if (!isfinite(d->qpos[k])) { b->finite[env] = 0; return; }
  for (int k = 0; k < m->nv; k++)
    if (!isfinite(d->qvel[k])) { b->finite[env] = 0; return; }
  b->finite[env] = 1;
  memset(d->actuator_force, 0, m->nu * sizeof(double));
  mj_fwdPosition(m, d);
  mj_fwdVelocity(m, d);
  mark_contacts(b, m, d, env, 0);
  if (b->num_pairs) memset(b->contact_force + (size_t)env * b->num_pairs, 0, b->num_pairs * sizeof(double));
  store(b, m, d, env);
}

/* Recompute what MuJoCo derives from the parameters (subtree masses, inverse weights) and keep it in the overrides. */
static void set_const_one(const HxPool *p, mjModel *m, mjData *d, int env) {
  load_overrides(p, m, env);
  mj_setConst(m, d);
  for (int k = 0; k < p->num_overrides; k++) {
    const HxOverride *o = &p->overrides[k];
    memcpy(o->data + (size_t)env * o->bytes, field_of(m, o->offset), o->bytes);
  }
}

static void work(HxPool *p, int index) {
  mjModel *m = p->models[index];
  mjData *d = p->datas[index];
  for (;;) {
    const int first = atomic_fetch_add(&p->next, HX_CHUNK);
    if (first >= p->count) return;
    const int last = first + HX_CHUNK < p->count ? first + HX_CHUNK : p->count;
    for (int k = first; k < last; k++) {
      const int env = p->ids ? p->ids[k] : k;
      if (p->kind == HX_STEP) step_one(p, m, d, env);
      else if (p->kind == HX_FORWARD) forward_one(p, m, d, env);
      else set_const_one(p, m, d, env);
    }
  }
}

static void *worker_main(void *arg) {
  HxWorker w = *(HxWorker *)arg;
  free(arg);
  HxPool *p = w.pool;
  int seen = 0;
  for (;;) {
    pthread_mutex_lock(&p->lock);
    while (p->generation == seen && !p->stop) pthread_cond_wait(&p->start, &p->lock);
    seen = p->generation;
    const int stop = p->stop;
    pthread_mutex_unlock(&p->lock);
    if (stop) return NULL;
    work(p, w.index);
    if (atomic_fetch_sub(&p->running, 1) == 1) {
      pthread_mutex_lock(&p->lock);
      pthread_cond_signal(&p->done);
      pthread_mutex_unlock(&p->lock);
    }
  }
}

void hx_destroy(HxPool *p) {
  if (!p) return;
  pthread_mutex_lock(&p->lock);
  p->stop = 1;
  pthread_cond_broadcast(&p->start);
  pthread_mutex_unlock(&p->lock);
  for (int i = 1; i < p->threads; i++) pthread_join(p->handles[i], NULL);
  for (int i = 0; i < p->threads; i++) {
    mj_deleteData(p->datas[i]);
    mj_deleteModel(p->models[i]);
  }
  pthread_mutex_destroy(&p->lock);
  pthread_cond_destroy(&p->start);
  pthread_cond_destroy(&p->done);
  free(p->models);
  free(p->datas);
  free(p->handles);
  free(p);
}

/* MuJoCo's own handler appends to MUJOCO_LOG.TXT in the working folder. Divergence is reported by `finite`; anything
 * else is said a few times. */
static void quiet_warning(const char *message) {
  static atomic_int said;
  if (!strstr(message, "Nan, Inf or huge value") && atomic_fetch_add(&said, 1) < 5)
    fprintf(stderr, "MuJoCo warning: %s\n", message);
}

/* Returns NULL when out of memory or threads. */
HxPool *hx_create(const mjModel *base, const HxBuffers *buffers, int threads) {
  HxPool *p = calloc(1, sizeof(HxPool));
  if (!p) return NULL;
  p->b = *buffers;
  if (!mju_user_warning) mju_user_warning = quiet_warning;
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->start, NULL);
  pthread_cond_init(&p->done, NULL);
  p->models = calloc(threads, sizeof(mjModel *));
  p->datas = calloc(threads, sizeof(mjData *));
  p->handles = calloc(threads, sizeof(pthread_t));
  p->threads = 0;
  for (int i = 0; i < threads; i++) {
    mjModel *m = mj_copyModel(NULL, base);
    mjData *d = m ? mj_makeData(m) : NULL;
    if (!d) {
      if (m) mj_deleteModel(m);
      hx_destroy(p);
      return NULL;
    }
    m->opt.disableflags |= mjDSBL_SENSOR; /* nobody reads them here */
    p->models[i] = m;
    p->datas[i] = d;
    if (i > 0) {
      HxWorker *w = malloc(sizeof(HxWorker));
      if (w) *w = (HxWorker){p, i};
      if (!w || pthread_create(&p->handles[i], NULL, worker_main, w)) {
        free(w);
        mj_deleteData(d);
        mj_deleteModel(m);
        hx_destroy(p);
        return NULL;
      }
    }
    p->threads = i + 1;
  }
  return p;
}

/* Size of a field of mjModel: 0 when there is none of that name. */
int hx_field(const mjModel *m, const char *name, size_t *size, size_t *count) {
  size_t offset;
  return find_field(m, name, &offset, size, count);
}

/* Let data (N, field) replace a field of the model, environment by environment. Returns 0 on success. */
int hx_override(HxPool *p, const char *name, void *data) {
  size_t offset, size, count;
  if (p->num_overrides == HX_MAX_OVERRIDES || !find_field(p->models[0], name, &offset, &size, &count)) return 1;
  p->overrides[p->num_overrides++] = (HxOverride){offset, size * count, data};
  return 0;
}

/* Run one job over the environments in ids (all when NULL) and wait for it. */
void hx_run(HxPool *p, int kind, const int32_t *ids, int count, int substeps) {
  p->kind = kind;
  p->ids = ids;
  p->count = ids ? count : p->b.num_envs;
  p->substeps = substeps;
  atomic_store(&p->next, 0);
  if (p->threads == 1 || p->count <= HX_CHUNK) {
    work(p, 0);
    return;
  }
  atomic_store(&p->running, p->threads - 1);
  pthread_mutex_lock(&p->lock);
  p->generation++;
  pthread_cond_broadcast(&p->start);
  pthread_mutex_unlock(&p->lock);
  work(p, 0);
  pthread_mutex_lock(&p->lock);
  while (atomic_load(&p->running) > 0) pthread_cond_wait(&p->done, &p->lock);
  pthread_mutex_unlock(&p->lock);
}
