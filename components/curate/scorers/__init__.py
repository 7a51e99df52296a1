"""Filters that ask a model: is this picture safe, and does its text belong to it.

Importing this loads no model and no framework; the modules do so when their functions are called.
"""
