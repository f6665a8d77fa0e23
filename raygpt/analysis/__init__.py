"""What the tables of a run come to: pictures, as plotly figures, and a report of them."""
