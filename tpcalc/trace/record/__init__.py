"""The recorder: every ATen call of a forward and a backward pass, at one width."""
