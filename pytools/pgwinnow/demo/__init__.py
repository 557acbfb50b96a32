"""``pgwinnow demo``: filtered search over the documentation of the Python packages on this machine.

``corpus`` reads docstrings from source, ``vectors`` embeds them once and remembers, ``database`` loads and indexes
them, ``searches`` asks winnow, pgvector and for the exact answer, and ``cli`` shows it all.
"""
