"""Tables of samples: columns are inputs, targets and slices. A source a module, and one that reads its rows."""
