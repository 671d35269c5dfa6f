"""Tests of ``tpcalc.check``, one file a module, but for

* ``settings``, ``result``: seen in what a whole check takes and gives (``test_run.py``);
* ``effects``: measured beside the sizes, by the same passes (``test_sizes.py``), predicted in ``test_verdicts.py``;
* ``optimizers``: each one trains in ``tests/optimizers/test_optimizer_families.py``.

``test_zoo_check.py`` and ``test_random_programs.py`` train whole families of models.
"""
