"""Training at several sizes: does a learning rate tuned at the smallest serve the largest?  (TP5, figure 1.)"""
