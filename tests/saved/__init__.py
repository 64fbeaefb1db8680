"""What earlier versions saved and trained, and the scripts that made it: later versions are held to it."""
