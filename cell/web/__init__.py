"""The operator's page.

Data flows one way: the pages read the records and the newest `Snapshot` of the line. What a person wants of the line
goes through `LineProcess` alone, which owns the process that moves the robot.
"""
