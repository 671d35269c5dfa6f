"""Hugging Face model types as targets."""
