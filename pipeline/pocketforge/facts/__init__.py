"""What a plan depends on outside the recipe: contents of files, versions, this host, connected phones."""
