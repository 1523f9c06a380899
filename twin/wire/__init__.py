"""The twin behind the Panda's own wire: robot protocol 5 and gripper protocol 3 of the Franka Control Interface."""
