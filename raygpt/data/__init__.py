"""Documents, tokens and batches: corpus → token shards → batches."""
