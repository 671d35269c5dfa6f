"""The Tensor Programs calculus: one law a structure, one file a question."""
