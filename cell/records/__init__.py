"""Records: every part with its pictures, verdict and bin, durable and traceable.

`address` and `database` open them; `schema` and `chain` say what a record is; `line` is what a running line writes,
`pictures`, `files` and `archive` store its pictures; `recovery` closes what an interrupted line left; `queries`,
`verification`, `export`, `retention` and `drift` read them. Nothing is imported here: the command line answers quickly.
"""
