"""The model's own initialisation, read from its init calls."""
