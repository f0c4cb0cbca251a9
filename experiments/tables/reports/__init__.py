"""`table report`: a comparison as files."""
