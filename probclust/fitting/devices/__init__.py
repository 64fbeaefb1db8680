"""A fit on several devices: the group, its processes."""
