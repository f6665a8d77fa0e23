"""The search: Optuna proposes, ASHA stops, Ray places the trials on the cluster."""
