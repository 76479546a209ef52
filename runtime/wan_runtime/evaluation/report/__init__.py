"""report.html: one file that says all of an evaluation and loads nothing."""
