"""A tensor program as text and as a graph."""
