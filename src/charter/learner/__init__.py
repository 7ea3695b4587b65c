"""Where weights live and learn; the only room that calls backward()."""
