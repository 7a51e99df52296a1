"""What samples are about: labels from a taxonomy of two levels, the balance of a dataset, and caps."""
