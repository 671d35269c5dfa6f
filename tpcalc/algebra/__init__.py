"""Exact exponents, sizes and constants: numbers, which know no graph."""
