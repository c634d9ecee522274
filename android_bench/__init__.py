"""Phones over adb: how to reach them, what they are, and how to measure on them. Knows nothing of `pocketforge`.

adb.py        the adb program and the phones it lists; every bad state its own error
link.py       one phone: shell commands with a proof that they ended, push and pull with a proof of the content
server.py     asks the adb server what it is before our client could kill it
errors.py     the error tree
runner/       our measuring program (C source)
"""
