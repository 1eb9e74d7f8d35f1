"""mmtutor: the code behind the book. It follows one sample through the system, room by room.

data → encoders → alignment → fusion → training → evaluation. Importing this package imports no
room, so that `mmtutor.files.store`, which the site builder needs, works where torch is not
installed.
"""

__version__ = "0.1.0"

GLUE_MIME = "application/papermill.record/"
"""Prefix of the MIME type of a number that prose cites:
`report.glue` writes it, the site reads it."""
