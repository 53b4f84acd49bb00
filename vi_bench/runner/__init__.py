"""One run: its methods are prepared, timed, evaluated and compared."""
