"""Files that people have: folders, tables, datasets in hub layout and WebDataset shards."""
