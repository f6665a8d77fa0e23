"""Plain PyTorch training of one recipe: nothing here knows of Ray or of searches."""
