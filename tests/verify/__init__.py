"""One test file a module of :mod:`tpcalc.verify`, and ``test_gauges`` and ``test_measured`` for the whole.

``repair`` has none of its own: what it finds are the causes that ``test_large`` and ``test_absorbed`` compare one by
one, and that ``test_measured`` compares with real runs.
"""
