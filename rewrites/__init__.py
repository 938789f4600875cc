"""Everything that knows the words cuda, nccl and npu.

A rule is one function with data, see `porter.rule`. A module here holds the rules of one family:
its functions decorated with `@rule`, and optionally MARKERS (byte patterns without which no rule
of the family can find anything), EXPORTED (prefixes of qualified names that files re-export) and
METHODS (method names whose redefinition in a project matters). Nothing has to be registered.
"""
