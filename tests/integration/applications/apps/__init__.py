"""The applications, a module each, imported where their framework is installed.

``make(folder, store)`` returns the application with the middleware, as its users would mount it.
Its handlers tell the session's id, its streams wait for ``gate.opened``, and its lifespan, where it
may have one, leaves the files ``began`` and ``ended`` in the folder.
"""
