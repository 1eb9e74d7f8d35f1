"""Sphinx extensions of the book, named under `extra_extensions` in _config.yml."""
