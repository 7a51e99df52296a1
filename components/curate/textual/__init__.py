"""Judges of text, one family a module: each a pure function that names what is wrong, or nothing."""
