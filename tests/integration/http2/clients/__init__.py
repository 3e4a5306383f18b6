"""Clients that read a stream over HTTP/2, each as a process: the head first, then the body."""
