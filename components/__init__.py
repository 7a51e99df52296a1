"""WHAT opsin does: one package per lifecycle stage, plus the parts they share. Plain Python, no prefect."""
