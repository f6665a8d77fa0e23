"""Trained models for other tools: what transformers loads, and what a reader wants to know."""
