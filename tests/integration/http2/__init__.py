"""HTTP/2 and HTTP/3 from end to end: servers that speak them, and proxies in front."""
