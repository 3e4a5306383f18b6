"""The applications' own clients, a module each, imported where they are installed.

``use(url, folder, headers)`` uses the application, with these headers on every request where the
client can be told so, and returns the session ids that its handlers saw.
"""
