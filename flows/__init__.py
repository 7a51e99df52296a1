"""WHEN things run: the only importer of prefect. Start reading at `lifecycle.py`."""
