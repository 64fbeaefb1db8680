"""Data: named sets, synthetic generators, files, and the checks of what is passed in."""
