"""Tests of ``tpcalc.scaling``, one file a module, but for ``fans``: true sizes are seen in the numbers
(``test_compute.py``).

``runtime`` has more: ``test_forward.py`` (gauges), ``test_scaling_slices.py`` (packed weights), ``test_distributed.py``
(shards), and ``test_training.py``, where whole training runs agree to the last digits.
"""
