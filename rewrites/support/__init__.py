"""What is known of the support for Ascend NPUs: generated tables, and answers from them.

The tables are written by `docs/tools/build_support.py` from upstream sources, never by hand.
"""
