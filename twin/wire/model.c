/* The model library that a Panda hands to its clients: thirty functions of libfranka 0.9.2's Model.

   Kinematics are true (DH parameters after Craig, from Franka's documentation). Dynamics are a lumped model: each
   link is a point mass with a rotational inertia, so gravity, mass matrix and Coriolis torques are consistent with
   each other but are not the identified values of a real arm. All matrices are by columns; q is (7,) in rad. */

#include <math.h>
#include <string.h>

#define N 7

static const double A[N] = {0, 0, 0, 0.0825, -0.0825, 0, 0.088};
static const double D[N] = {0.333, 0, 0.316, 0, 0.384, 0, 0};
static const double COS_ALPHA[N] = {1, 0, 0, 0, 0, 0, 0};
static const double SIN_ALPHA[N] = {0, -1, 1, 1, -1, 1, 1};
static const double FLANGE = 0.107;
/* Masses (kg) and centres (m, in the link's frame) as in pybullet_data's panda.urdf; inertias (kg m2) of that order. */
static const double MASS[N] = {2.7, 2.73, 2.04, 2.08, 3.0, 1.3, 0.2};
static const double CENTRE[N][3] = {{0, -0.04, -0.05}, {0, -0.04, 0.06}, {0.01, 0.01, -0.05},
    {-0.03, 0.03, 0.02}, {0, 0.04, -0.12}, {0.04, 0, 0}, {0, 0, 0.08}};
static const double INERTIA[N] = {0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01};
static const double NO_SHIFT[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

static void multiply(const double a[16], const double b[16], double out[16]) {
  for (int c = 0; c < 4; ++c)
    for (int r = 0; r < 4; ++r) {
      double sum = 0;
      for (int k = 0; k < 4; ++k) sum += a[4 * k + r] * b[4 * c + k];
      out[4 * c + r] = sum;
    }
}

/* Poses of frames 1..7 and of the flange (8th). */
static void frames(const double q[N], double out[N + 1][16]) {
  double before[16];
  memcpy(before, NO_SHIFT, sizeof before);
  for (int i = 0; i < N; ++i) {
    const double c = cos(q[i]), s = sin(q[i]), ca = COS_ALPHA[i], sa = SIN_ALPHA[i];
    const double step[16] = {c, s * ca, s * sa, 0, -s, c * ca, c * sa, 0, 0, -sa, ca, 0, A[i], -D[i] * sa, D[i] * ca, 1};
    multiply(before, step, out[i]);
    memcpy(before, out[i], sizeof before);
  }
  memcpy(out[N], out[N - 1], sizeof out[N]);
  for (int r = 0; r < 3; ++r) out[N][12 + r] += FLANGE * out[N][8 + r];
}

static void pose(int n, const double q[N], const double tool[16], double out[16]) {
  double all[N + 1][16];
  frames(q, all);
  multiply(all[n], tool, out);
}

/* Jacobian of a point that moves with the first `joints` joints; in the base's frame. */
static void point_jacobian(double all[N + 1][16], int joints, const double point[3], double out[42]) {
  memset(out, 0, 42 * sizeof *out);
  for (int j = 0; j < joints; ++j) {
    const double *z = all[j] + 8, *o = all[j] + 12;
    const double l[3] = {point[0] - o[0], point[1] - o[1], point[2] - o[2]};
    double *column = out + 6 * j;
    column[0] = z[1] * l[2] - z[2] * l[1];
    column[1] = z[2] * l[0] - z[0] * l[2];
    column[2] = z[0] * l[1] - z[1] * l[0];
    memcpy(column + 3, z, 3 * sizeof *z);
  }
}

static void jacobian(int n, const double q[N], const double tool[16], int body, double out[42]) {
  double all[N + 1][16], end[16];
  frames(q, all);
  multiply(all[n], tool, end);
  point_jacobian(all, n < N ? n + 1 : N, end + 12, out);
  if (!body) return;
  for (int part = 0; part < 14; ++part) {
    double *v = out + 3 * part, turned[3];
    for (int r = 0; r < 3; ++r) turned[r] = end[4 * r] * v[0] + end[4 * r + 1] * v[1] + end[4 * r + 2] * v[2];
    memcpy(v, turned, sizeof turned);
  }
}

static void centre_of(double all[N + 1][16], int frame, const double c[3], double out[3]) {
  for (int r = 0; r < 3; ++r)
    out[r] = all[frame][12 + r] + all[frame][r] * c[0] + all[frame][4 + r] * c[1] + all[frame][8 + r] * c[2];
}

static void add_mass(const double j[42], double m, const double inertia[9], double out[49]) {
  for (int a = 0; a < N; ++a)
    for (int b = 0; b < N; ++b) {
      double sum = 0;
      for (int r = 0; r < 3; ++r) {
        sum += m * j[6 * a + r] * j[6 * b + r];
        for (int s = 0; s < 3; ++s) sum += j[6 * a + 3 + r] * inertia[3 * s + r] * j[6 * b + 3 + s];
      }
      out[N * b + a] += sum;
    }
}

void M_NE(const double q[N], const double i_load[9], double m_load, const double f_x_c[3], double out[49]) {
  double all[N + 1][16], point[3], j[42];
  frames(q, all);
  memset(out, 0, 49 * sizeof *out);
  for (int i = 0; i < N; ++i) {
    const double round[9] = {INERTIA[i], 0, 0, 0, INERTIA[i], 0, 0, 0, INERTIA[i]};
    centre_of(all, i, CENTRE[i], point);
    point_jacobian(all, i + 1, point, j);
    add_mass(j, MASS[i], round, out);
  }
  double turned[9], world[9];
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) {
      turned[3 * c + r] = 0;
      for (int k = 0; k < 3; ++k) turned[3 * c + r] += all[N][4 * k + r] * i_load[3 * c + k];
    }
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) {
      world[3 * c + r] = 0;
      for (int k = 0; k < 3; ++k) world[3 * c + r] += turned[3 * k + r] * all[N][4 * k + c];
    }
  centre_of(all, N, f_x_c, point);
  point_jacobian(all, N, point, j);
  add_mass(j, m_load, world, out);
}

/* Christoffel symbols of M_NE by central differences: C(q, dq) dq = dM/dt dq - 1/2 d(dq' M dq)/dq. */
void c_NE(const double q[N], const double dq[N], const double i_load[9], double m, const double f_x_c[3], double out[N]) {
  const double h = 1e-6;
  memset(out, 0, N * sizeof *out);
  for (int k = 0; k < N; ++k) {
    double up[N], down[N], m_up[49], m_down[49];
    memcpy(up, q, sizeof up);
    memcpy(down, q, sizeof down);
    up[k] += h;
    down[k] -= h;
    M_NE(up, i_load, m, f_x_c, m_up);
    M_NE(down, i_load, m, f_x_c, m_down);
    double energy = 0;
    for (int a = 0; a < N; ++a)
      for (int b = 0; b < N; ++b) {
        const double slope = (m_up[N * b + a] - m_down[N * b + a]) / (2 * h);
        out[a] += slope * dq[k] * dq[b];
        energy += dq[a] * slope * dq[b];
      }
    out[k] -= 0.5 * energy;
  }
}

void g_NE(const double q[N], const double g_earth[3], double m, const double f_x_c[3], double out[N]) {
  double all[N + 1][16], point[3], j[42];
  frames(q, all);
  memset(out, 0, N * sizeof *out);
  for (int i = 0; i <= N; ++i) {
    centre_of(all, i, i < N ? CENTRE[i] : f_x_c, point);
    point_jacobian(all, i < N ? i + 1 : N, point, j);
    for (int a = 0; a < N; ++a)
      for (int r = 0; r < 3; ++r) out[a] -= (i < N ? MASS[i] : m) * j[6 * a + r] * g_earth[r];
  }
}

#define FRAME(n) \
  void O_T_J##n(const double q[N], double out[16]) { pose(n - 1, q, NO_SHIFT, out); }
#define JACOBIANS(n) \
  void O_J_J##n(const double q[N], double out[42]) { jacobian(n - 1, q, NO_SHIFT, 0, out); } \
  void Ji_J_J##n(const double q[N], double out[42]) { jacobian(n - 1, q, NO_SHIFT, 1, out); }

FRAME(1) FRAME(2) FRAME(3) FRAME(4) FRAME(5) FRAME(6) FRAME(7) FRAME(8)
JACOBIANS(2) JACOBIANS(3) JACOBIANS(4) JACOBIANS(5) JACOBIANS(6) JACOBIANS(7) JACOBIANS(8)

static const double ANY[N] = {0};
void O_J_J1(double out[42]) { jacobian(0, ANY, NO_SHIFT, 0, out); }
void Ji_J_J1(double out[42]) { jacobian(0, ANY, NO_SHIFT, 1, out); }
void O_T_J9(const double q[N], const double tool[16], double out[16]) { pose(N, q, tool, out); }
void O_J_J9(const double q[N], const double tool[16], double out[42]) { jacobian(N, q, tool, 0, out); }
void Ji_J_J9(const double q[N], const double tool[16], double out[42]) { jacobian(N, q, tool, 1, out); }
