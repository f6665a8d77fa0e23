"""Plotly figures of a run's tables and models, and the HTML report."""
