"""The report of a study: figures, pages, and their browser."""
