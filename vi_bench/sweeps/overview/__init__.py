"""Pages, tables and figures of a sweep."""
