"""Tests of the tracer, a module for each of its modules, but for these.

``record/calls``, ``tape``, ``mode`` and ``run`` are one machine, which stands or falls as a whole: what it records,
replayed, is what eager PyTorch gives (``record/test_recorder``).  ``hf/family`` is all that ``hf/test_factory`` asks of
a factory's configs.  ``test_public`` holds for the whole package: outside of it only its public names are used.
"""
