"""A manifest and what can be done with it: find, fetch, verify; hashed weights. Importing it
imports no torch."""
