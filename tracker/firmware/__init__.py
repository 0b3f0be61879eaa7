"""Firmware: which file a kernel asks for, which firmware release has it, and what does not fit."""
