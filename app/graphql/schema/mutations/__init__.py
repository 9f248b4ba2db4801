"""The mutations, one file per subject."""
