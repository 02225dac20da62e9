"""One kind of source a file; `..source.open_source` chooses."""
