"""Ratings by people: what each rater judges, the page, and the objects that hold what they said."""
