"""Tests of :mod:`tpcalc.derive`, a file for each module; ``test_zoo`` derives many models end to end.

Without a file of its name: ``largest``, whose rates are compared with the published ones and with the linear program in
``tests/papers/test_oracles.py``, and measured in ``test_parametrizations.py``.
"""
