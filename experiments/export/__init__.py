"""What `python -m experiments export` is made of: the file formats, and how a file is verified."""
