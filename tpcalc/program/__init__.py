"""The tensor program: a small immutable IR of one model at every width at once."""
