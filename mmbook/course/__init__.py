"""What `make classroom` copies into a course folder: nbgrader's settings and how submissions are
run."""
