"""The command line: `python -m experiments COMMAND`."""
