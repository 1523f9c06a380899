"""The simulated cell: a PyBullet world behind the interfaces of `cell.interfaces`."""
