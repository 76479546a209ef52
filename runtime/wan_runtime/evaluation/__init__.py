"""Compare ways to make a video on the same clips: render, measure, let people judge, decide."""
