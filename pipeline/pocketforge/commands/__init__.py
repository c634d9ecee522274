"""What each command does, a verb a file, without click: cli/X.py calls commands/X.py."""
