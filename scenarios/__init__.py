"""Studies: compose the twin, the cell and detection, and compare verdicts with the truth."""
