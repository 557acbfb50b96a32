"""The parts of ``pgwinnow.load``.

``sources`` pairs files, ``ddl`` makes tables, ``values`` turns what files hold into what columns take, ``binary`` turns
that into COPY's binary format, ``ledger`` remembers what was loaded, ``locks`` keeps sessions apart.
"""
