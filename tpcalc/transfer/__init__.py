"""Tune small, train big: learning rates and the multipliers of modules, from the base to the target."""
