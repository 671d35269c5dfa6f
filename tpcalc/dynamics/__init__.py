"""What a given parametrization does: training followed step by step, and its regime."""
