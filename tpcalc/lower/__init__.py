"""From ATen calls to atoms: each op's structure, flattened."""
