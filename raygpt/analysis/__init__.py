"""What can be seen in a trained model."""
