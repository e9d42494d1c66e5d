"""XMimic: from clips to policies. Simulators, environment, rewards, teachers, students, export and evaluation."""
