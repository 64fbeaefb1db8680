"""The command line: its commands, run folders, the report's page."""
