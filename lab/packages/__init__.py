"""Debian packages without root and without dpkg: where they are, what they need, how they are unpacked.

This room does not decide which packages a guest or a QEMU needs; its callers name them.
"""
