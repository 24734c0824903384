"""Data files that ship with the package; readers/text_files.py reads them."""
