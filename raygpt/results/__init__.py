"""What a run leaves behind: tables on disk, and what is read from them."""
