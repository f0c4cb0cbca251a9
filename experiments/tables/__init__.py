"""Published results beside reproduced ones: table files, static columns, running rows, reports."""
