"""The inspection cell: interfaces, motion, the cycle, records and commands.

`cell` knows devices only by the Protocols of `cell.interfaces`; a cell file names the classes behind them.
"""
