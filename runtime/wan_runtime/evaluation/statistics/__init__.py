"""The decision between candidates, from metrics, people and costs. NumPy alone, no torch."""
