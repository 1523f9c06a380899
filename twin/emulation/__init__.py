"""The twin behind the devices' own interfaces: here the real drivers run, and do not know it."""
