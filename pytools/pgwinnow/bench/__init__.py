"""Benchmarks of winnow against pgvector on one machine, in one run, at one recall.

``pgwinnow bench run`` is the way in. The modules are steps of one pipeline: ``datasets`` (with ``grow`` and
``synthetic``) gives vectors and attributes, ``filters`` and ``workloads`` turn them into WHERE clauses, ``truth``
answers those exactly, ``rivals`` knows how each index is made and asked, ``measure`` and ``writes`` time them, and
``report`` prints what came out.
"""
