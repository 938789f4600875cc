"""Many repositories, or one very large one, in one dashboard.

A list (`listing`) names the repositories. Work on them is done in units (`unit`, `steps`) that an
engine runs: processes of this machine (`local`), or a Ray cluster (`ray`). Units talk through files
alone (`state`), so the process that hands them out (`drive`) holds no report, and what was finished
before an interruption is found again. `dashboard` adds up what they leave; `page` and `show` show
it.
"""
