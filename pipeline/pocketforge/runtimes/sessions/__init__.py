"""Opening an exported file with its runtime, and nothing else.

These files import only the standard library, NumPy and one runtime: runner.py loads them by path, so that they
also work under another environment's interpreter, which knows nothing of Pocketforge.
"""
