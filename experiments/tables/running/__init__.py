"""`table run`: what is missing is planned, shared out and trained."""
