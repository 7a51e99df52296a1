"""Curation: raw sources → gated, deduplicated, versioned WebDataset shards."""
