"""What a stage's folder says: the JSON files that stages write and others read, a frozen dataclass each.

A module a file, named as it. `files.read` and `files.write` are the only way in and out.
"""
