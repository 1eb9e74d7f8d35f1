"""The tools behind the book: run the notebooks, check its laws, derive the student edition of the
exercises."""
