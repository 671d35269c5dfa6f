"""Small models that once came out wrong or were refused, with the exponents of init and learning rate of each."""
