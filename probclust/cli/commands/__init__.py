"""The commands of `probclust`, one file each. Heavy packages are imported when a command runs, not before."""
