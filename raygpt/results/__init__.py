"""A run's tables on disk, and the results that are computed from them."""
