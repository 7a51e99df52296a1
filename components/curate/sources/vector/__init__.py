"""Vector drawings of strangers, checked and then drawn in a process of their own."""
