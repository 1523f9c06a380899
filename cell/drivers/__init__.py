"""Drivers of the real cell's devices: one device, one file, its configuration beside it."""
