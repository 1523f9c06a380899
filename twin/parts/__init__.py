"""Moulded parts for the twin: shapes, and what can be wrong with them."""
