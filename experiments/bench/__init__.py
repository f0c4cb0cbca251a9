"""What `python -m experiments bench` is made of: what is timed, how, and where results go."""
