"""One run: methods are prepared, timed, evaluated and compared."""
