"""The scaling table as text, Markdown, LaTeX and CSV."""
