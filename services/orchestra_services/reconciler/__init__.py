"""The reconciler: turns rows into Hub groups, prepared folders, seats stopped and data purged.

`plan` decides (pure), `steps` does one thing at a time, `worker` goes from workshop to workshop, `leading` sees to it
that only one process does, `app` is the program.
"""
