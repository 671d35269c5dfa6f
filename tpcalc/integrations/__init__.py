"""Multipliers inside the trainers that people have: transformers, Lightning, accelerate, DeepSpeed.

A module a trainer; nothing here imports a trainer but the user's own.  What they share: :mod:`groups` puts multipliers
on an optimizer that a trainer has made, and holds its checkpoints and schedulers to them; :mod:`weights` sees to the
init, and finds the multipliers that were given.
"""
