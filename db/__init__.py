"""Tables, sessions and migrations: the one place where tracker and harness meet.

Nothing here knows the rooms above. Rows are plain; rules live with their owners.
"""
