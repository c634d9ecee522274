"""A recipe and its facts become steps with keys. Pure: nothing is looked up here."""
