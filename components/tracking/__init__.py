"""Runs and registered models in MLflow; the only importer of mlflow."""
