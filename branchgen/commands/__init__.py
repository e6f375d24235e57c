"""One module per command: read the inputs, call the package, write the outputs."""
