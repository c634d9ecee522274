"""Builds over time: each with its commit, its host, every value, every verdict and its whole report.

In one SQLite file, or for a team in PostgreSQL, through SQLAlchemy. `places` says where, `database` opens it and brings
its tables to this version's, `keeper` adds and finds, `trend` and `changes` say what became of a metric. Nothing of
SQLAlchemy is imported before `opening.open_history` is called.
"""
