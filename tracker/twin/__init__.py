"""The driver's out-of-tree twin: which of its commits are upstream, which are not, and who was first."""
