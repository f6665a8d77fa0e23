"""Trained models for other tools: transformers' files, and a model card for readers."""
