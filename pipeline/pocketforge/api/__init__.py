"""What `import pocketforge` gives: the commands' own functions, for programs and notebooks.

The command line calls the same ones. Nothing here prints, ends the process, or leaves one behind.
"""
