"""Tables of samples: rows whose columns are inputs, targets and slices. A source a module, and one that reads its rows."""
