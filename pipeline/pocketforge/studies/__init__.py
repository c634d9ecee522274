"""Studies: questions about a recipe that take many models to answer. They build nothing that is shipped."""
