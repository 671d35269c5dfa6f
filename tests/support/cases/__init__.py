"""Small models that once came out wrong or were refused, with the rules of each: ``(init, learning rate)`` exponents."""
