"""Several processes, on one computer or more, train one set together."""
