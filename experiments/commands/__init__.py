"""Further commands: one file, one command, each with `main(arguments)`."""
