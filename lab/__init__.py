"""Machines: power, boot, console, shell; and the virtual NPU. Uses nothing of the project."""
