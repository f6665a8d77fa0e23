"""What a run comes to: pictures, as plotly figures, of its tables and models, and a report."""
