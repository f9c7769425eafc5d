"""The real servers that the system talks to, brought up on this machine for its tests and for trying it out."""
