"""Reports: a derivation or a program as text, Markdown, LaTeX, CSV, JSON or DOT.

Every renderer is a pure function from the data to text that ends with a newline: the same input
gives the same bytes, whatever the terminal.  Printed tables fold repeated blocks
(:mod:`tpcalc.program.names`); JSON and CSV list every parameter under its own full name.
"""
